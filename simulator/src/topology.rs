//! Who is whose neighbour: graphs from their description and the seed.

use std::collections::BTreeSet;

use crate::engine::Stream;
use crate::scenario::Topology;

/// Pairs of neighbours, the lower number first.
pub type Edges = BTreeSet<(u32, u32)>;

/// How often drawing a random regular graph is begun anew before what is left over is paired anyhow.
const TRIES: usize = 100;

/// The edges of a graph of `count` nodes. It does not fall apart: edges that it lacks for that are added.
pub fn edges(topology: &Topology, count: u32, random: &Stream) -> Edges {
    let mut edges = raw(topology, count, random);
    connect(&mut edges, count);
    edges
}

fn raw(topology: &Topology, count: u32, random: &Stream) -> Edges {
    match *topology {
        Topology::FullMesh => all_pairs(count).collect(),
        Topology::Star => (1..count).map(|node| (0, node)).collect(),
        Topology::Line => (1..count).map(|node| (node - 1, node)).collect(),
        Topology::Ring => (0..count).filter_map(|node| pair(node, (node + 1) % count)).collect(),
        Topology::Grid { width } => grid(width.max(1), count),
        Topology::Tree { children } => (1..count).map(|node| ((node - 1) / children.max(1), node)).collect(),
        Topology::RandomRegular { degree } => random_regular(degree, count, random),
        Topology::ErdosRenyi { probability } => all_pairs(count).filter(|_| random.chance(probability)).collect(),
        Topology::WattsStrogatz { nearest, rewired } => watts_strogatz(nearest, rewired, count, random),
        Topology::BarabasiAlbert { edges } => barabasi_albert(edges, count, random),
        Topology::RandomGeometric { radius } => {
            let places: Vec<(f64, f64)> = (0..count).map(|_| (random.unit(), random.unit())).collect();
            let near = |a: u32, b: u32| match (places.get(a as usize), places.get(b as usize)) {
                (Some(a), Some(b)) => (a.0 - b.0).hypot(a.1 - b.1) <= radius,
                _ => false,
            };
            all_pairs(count).filter(|(a, b)| near(*a, *b)).collect()
        }
    }
}

fn pair(a: u32, b: u32) -> Option<(u32, u32)> {
    (a != b).then_some((a.min(b), a.max(b)))
}

fn all_pairs(count: u32) -> impl Iterator<Item = (u32, u32)> {
    (0..count).flat_map(move |a| (a + 1..count).map(move |b| (a, b)))
}

fn grid(width: u32, count: u32) -> Edges {
    let right = (0..count).filter(|node| node % width + 1 < width && node + 1 < count).map(|node| (node, node + 1));
    let below = (0..count).filter(|node| node + width < count).map(|node| (node, node + width));
    right.chain(below).collect()
}

/// Pairs the ends of edges by lot, and begins anew when only loops and doubles are left (Steger and Wormald).
fn random_regular(degree: u32, count: u32, random: &Stream) -> Edges {
    let degree = degree.min(count.saturating_sub(1));
    let mut edges = Edges::new();
    for _ in 0..TRIES {
        edges.clear();
        let mut ends: Vec<u32> = (0..count).flat_map(|node| (0..degree).map(move |_| node)).collect();
        loop {
            random.shuffle(&mut ends);
            let mut left = Vec::new();
            for two in ends.chunks(2) {
                match *two {
                    [a, b] if pair(a, b).is_some_and(|pair| edges.insert(pair)) => {}
                    _ => left.extend_from_slice(two),
                }
            }
            if left.len() <= 1 {
                return edges;
            }
            if left.len() == ends.len() {
                break;
            }
            ends = left;
        }
    }
    edges
}

fn watts_strogatz(nearest: u32, rewired: f64, count: u32, random: &Stream) -> Edges {
    let mut edges: Edges = (0..count)
        .flat_map(|node| (1..=nearest.min(count / 2)).filter_map(move |step| pair(node, (node + step) % count)))
        .collect();
    for (a, b) in edges.clone() {
        if random.chance(rewired)
            && let Some(new) = pair(a, random.index(count as usize) as u32)
            && !edges.contains(&new)
        {
            edges.remove(&(a, b));
            edges.insert(new);
        }
    }
    edges
}

fn barabasi_albert(per_node: u32, count: u32, random: &Stream) -> Edges {
    let seed = (per_node + 1).min(count);
    let mut edges: Edges = all_pairs(seed).collect();
    // Each node as often as it has edges.
    let mut ends: Vec<u32> = edges.iter().flat_map(|(a, b)| [*a, *b]).collect();
    for node in seed..count {
        let mut chosen = BTreeSet::new();
        while chosen.len() < per_node as usize {
            match random.pick(&ends) {
                Some(end) => chosen.insert(*end),
                None => break,
            };
        }
        for other in chosen {
            edges.insert((other, node));
            ends.extend([other, node]);
        }
    }
    edges
}

/// Adds edges between the parts of a graph that falls apart.
fn connect(edges: &mut Edges, count: u32) {
    let parts = parts(edges, count);
    for two in parts.windows(2) {
        if let [one, other] = two
            && let (Some(a), Some(b)) = (one.first(), other.first())
        {
            edges.extend(pair(*a, *b));
        }
    }
}

/// The parts of a graph: nodes that reach each other, each in order, by their lowest node.
pub fn parts(edges: &Edges, count: u32) -> Vec<Vec<u32>> {
    let mut neighbours = vec![Vec::new(); count as usize];
    for (a, b) in edges {
        for (from, to) in [(*a, *b), (*b, *a)] {
            if let Some(list) = neighbours.get_mut(from as usize) {
                list.push(to);
            }
        }
    }
    let mut seen = BTreeSet::new();
    let mut parts = Vec::new();
    for start in 0..count {
        let mut part = Vec::new();
        let mut open = vec![start];
        while let Some(node) = open.pop() {
            if seen.insert(node) {
                part.push(node);
                open.extend(neighbours.get(node as usize).into_iter().flatten());
            }
        }
        if !part.is_empty() {
            part.sort_unstable();
            parts.push(part);
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(topology: &Topology, count: u32) -> Edges {
        edges(topology, count, &Stream::new(3, "topology", 0, 0))
    }

    fn degrees(edges: &Edges, count: u32) -> Vec<usize> {
        (0..count).map(|node| edges.iter().filter(|(a, b)| *a == node || *b == node).count()).collect()
    }

    #[test]
    fn plain_graphs_have_their_edges() {
        assert_eq!(made(&Topology::FullMesh, 5).len(), 10);
        assert_eq!(degrees(&made(&Topology::Star, 5), 5), [4, 1, 1, 1, 1]);
        assert_eq!(degrees(&made(&Topology::Line, 4), 4), [1, 2, 2, 1]);
        assert_eq!(degrees(&made(&Topology::Ring, 4), 4), [2, 2, 2, 2]);
        assert_eq!(
            made(&Topology::Grid { width: 3 }, 6),
            Edges::from([(0, 1), (1, 2), (3, 4), (4, 5), (0, 3), (1, 4), (2, 5)])
        );
        assert_eq!(made(&Topology::Tree { children: 2 }, 5), Edges::from([(0, 1), (0, 2), (1, 3), (1, 4)]));
        assert!(made(&Topology::FullMesh, 1).is_empty());
        assert_eq!(made(&Topology::Ring, 2).len(), 1);
    }

    #[test]
    fn random_graphs_have_the_degrees_they_promise() {
        assert_eq!(degrees(&made(&Topology::RandomRegular { degree: 4 }, 50), 50), [4; 50]);
        let edges = made(&Topology::BarabasiAlbert { edges: 3 }, 200);
        assert_eq!(edges.len(), 6 + 196 * 3);
        assert!(degrees(&edges, 200).iter().max().is_some_and(|most| *most > 15), "there are hubs");
        let expected = 0.1 * 4950.0;
        assert!((made(&Topology::ErdosRenyi { probability: 0.1 }, 100).len() as f64 - expected).abs() < 100.0);
        assert_eq!(made(&Topology::WattsStrogatz { nearest: 2, rewired: 0.2 }, 60).len(), 120);
    }

    #[test]
    fn no_graph_falls_apart() {
        for topology in [
            Topology::ErdosRenyi { probability: 0.0 },
            Topology::RandomGeometric { radius: 0.01 },
            Topology::RandomRegular { degree: 1 },
        ] {
            assert_eq!(parts(&made(&topology, 30), 30).len(), 1, "{topology:?}");
        }
    }
}
