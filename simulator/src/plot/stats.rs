//! The statistics behind the figures.

/// The share below which the confidence intervals leave nothing to be said: 95 %.
pub const CONFIDENCE: &str = "95 %";

/// A mean over seeds with its confidence interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    /// The mean.
    pub mean: f64,
    /// The lower end; the mean itself where there is only one value.
    pub low: f64,
    /// The upper end.
    pub high: f64,
}

/// The mean of the values and its 95 % confidence interval by Student's t: mean ± t(0.975, n-1) · s / √n, where s is the
/// sample's standard deviation with n-1 below the line. None without values.
pub fn confidence(values: &[f64]) -> Option<Interval> {
    let count = values.len() as f64;
    if values.is_empty() {
        return None;
    }
    let mean = values.iter().sum::<f64>() / count;
    let Some(t) = student(values.len() - 1) else { return Some(Interval { mean, low: mean, high: mean }) };
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    let half = t * (squares / (count - 1.0)).sqrt() / count.sqrt();
    Some(Interval { mean, low: mean - half, high: mean + half })
}

/// The 97.5 % quantile of Student's t for 1 to 30 degrees of freedom.
const STUDENT: [f64; 30] = [
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131, 2.120,
    2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
];

/// The 97.5 % quantile of Student's t; none for no degree of freedom. Above 30 by the first two terms of its expansion around
/// the normal distribution's, right to three digits.
fn student(freedom: usize) -> Option<f64> {
    let index = freedom.checked_sub(1)?;
    Some(STUDENT.get(index).copied().unwrap_or_else(|| {
        let (z, n) = (1.959_964_f64, freedom as f64);
        z + (z.powi(3) + z) / (4.0 * n) + (5.0 * z.powi(5) + 16.0 * z.powi(3) + 3.0 * z) / (96.0 * n * n)
    }))
}

/// The quantile of sorted values, linear between two of them (Hyndman and Fan's type 7). None without values.
pub fn quantile(sorted: &[f64], share: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    let place = last as f64 * share.clamp(0.0, 1.0);
    let below = sorted.get(place.floor() as usize)?;
    let above = sorted.get(place.ceil() as usize)?;
    Some(below + (above - below) * place.fract())
}

/// The empirical distribution function: the share of sorted values that are not above `at`. None without values.
pub fn share_up_to(sorted: &[f64], at: f64) -> Option<f64> {
    if sorted.is_empty() {
        return None;
    }
    Some(sorted.partition_point(|value| *value <= at) as f64 / sorted.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_distribution_function_steps_at_the_values() {
        let sorted = [1.0, 2.0, 2.0, 5.0];
        let steps: Vec<f64> =
            [0.9, 1.0, 1.9, 2.0, 5.0, 9.0].iter().map(|at| share_up_to(&sorted, *at).unwrap()).collect();
        assert_eq!(steps, [0.0, 0.25, 0.25, 0.75, 1.0, 1.0]);
        assert_eq!(share_up_to(&[], 1.0), None);
    }

    #[test]
    fn quantiles_are_linear_between_values() {
        let sorted = [10.0, 20.0, 30.0, 40.0, 50.0];
        assert_eq!(quantile(&sorted, 0.5), Some(30.0));
        assert_eq!(quantile(&sorted, 0.9), Some(46.0));
        assert_eq!(quantile(&sorted, 0.0), Some(10.0));
        assert_eq!(quantile(&sorted, 2.0), Some(50.0));
        assert_eq!(quantile(&[], 0.5), None);
    }

    #[test]
    fn the_interval_is_that_of_the_textbooks() {
        // scipy.stats.t.interval(0.95, 4, mean, sem) of these gives (2.0368, 5.9632).
        let interval = confidence(&[2.0, 3.0, 4.0, 5.0, 6.0]).unwrap();
        assert!((interval.mean - 4.0).abs() < 1e-9);
        assert!((interval.low - 2.036_8).abs() < 1e-3 && (interval.high - 5.963_2).abs() < 1e-3, "{interval:?}");
    }

    #[test]
    fn one_value_has_no_spread_and_none_has_no_mean() {
        assert_eq!(confidence(&[3.0]), Some(Interval { mean: 3.0, low: 3.0, high: 3.0 }));
        assert_eq!(confidence(&[]), None);
    }

    #[test]
    fn students_quantile_goes_on_above_the_table() {
        for (freedom, right) in [(1, 12.706), (30, 2.042), (31, 2.040), (40, 2.021), (60, 2.000), (120, 1.980)] {
            let found = student(freedom).unwrap();
            assert!((found - right).abs() < 1e-3, "{freedom}: {found}");
        }
        assert_eq!(student(0), None);
    }
}
