//! DNS, by the name servers that the system is set up with, and `/etc/hosts`.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::LookupIpStrategy;
use hickory_resolver::net::NetError;
use hickory_resolver::proto::rr::{RData, RecordType};

use super::discovery::Resolve;
use super::srv::Srv;
use crate::Timer;

/// How many names are remembered.
const MOST_REMEMBERED: u64 = 1_024;
/// How long anything is remembered at most: the other end may move.
const LONGEST: Duration = Duration::from_secs(3600);
/// How long a name server is waited for, twice.
const PATIENCE: Duration = Duration::from_secs(4);
/// How often at most the system's settings are read anew, when a look-up failed.
const RENEWED: Duration = Duration::from_secs(30);
/// How many records of an answer are used.
const MOST_RECORDS: usize = 32;

/// Looks names up.
pub(super) struct Dns {
    timer: Arc<dyn Timer>,
    resolver: Mutex<Option<(TokioResolver, Duration)>>,
}

impl Dns {
    pub(super) fn new(timer: Arc<dyn Timer>) -> Self {
        Self { timer, resolver: Mutex::default() }
    }

    /// Name servers are those of the network: they are read anew at the next look-up.
    pub(super) fn network_changed(&self) {
        *self.resolver.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn resolver(&self) -> Result<TokioResolver, String> {
        let mut kept = self.resolver.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((resolver, _)) = &*kept {
            return Ok(resolver.clone());
        }
        let wrong = |error: NetError| format!("the system's DNS settings cannot be used: {error}");
        let mut builder = TokioResolver::builder_tokio().map_err(wrong)?;
        let options = builder.options_mut();
        options.cache_size = MOST_REMEMBERED;
        options.positive_max_ttl = Some(LONGEST);
        options.negative_max_ttl = Some(LONGEST);
        options.timeout = PATIENCE;
        options.attempts = 2;
        options.ip_strategy = LookupIpStrategy::Ipv6AndIpv4;
        let resolver = builder.build().map_err(wrong)?;
        *kept = Some((resolver.clone(), self.timer.now()));
        Ok(resolver)
    }

    /// A failure may come of name servers of a network that we left.
    fn failed(&self, error: &NetError) -> String {
        let mut kept = self.resolver.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.as_ref().is_some_and(|(_, since)| self.timer.now() >= *since + RENEWED) {
            *kept = None;
        }
        error.to_string()
    }
}

/// A name as it stands: nothing is put behind it.
fn whole(name: &str) -> String {
    if name.ends_with('.') { name.to_owned() } else { format!("{name}.") }
}

impl Resolve for Dns {
    fn addresses<'a>(&'a self, host: &'a str) -> BoxFuture<'a, Result<Vec<IpAddr>, String>> {
        Box::pin(async move {
            let resolver = self.resolver()?;
            match resolver.lookup_ip(whole(host)).await {
                Ok(found) => Ok(found.iter().take(MOST_RECORDS).collect()),
                Err(error) if error.is_no_records_found() => Err("there is no such host".to_owned()),
                Err(error) => Err(self.failed(&error)),
            }
        })
    }

    fn services<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Vec<Srv>, String>> {
        Box::pin(async move {
            let resolver = self.resolver()?;
            let found = match resolver.lookup(whole(name), RecordType::SRV).await {
                Ok(found) => found,
                Err(error) if error.is_no_records_found() => return Ok(Vec::new()),
                Err(error) => return Err(self.failed(&error)),
            };
            let records = found.answers().iter().filter_map(|record| match &record.data {
                RData::SRV(srv) => Some(Srv {
                    priority: srv.priority,
                    weight: srv.weight,
                    target: srv.target.to_ascii().trim_end_matches('.').to_owned(),
                    port: srv.port,
                }),
                _ => None,
            });
            Ok(records.take(MOST_RECORDS).collect())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TokioTimer;

    #[tokio::test]
    async fn this_device_is_found_without_asking_a_name_server() {
        let dns = Dns::new(Arc::new(TokioTimer::default()));
        let addresses = dns.addresses("localhost").await.unwrap();
        assert!(!addresses.is_empty() && addresses.iter().all(IpAddr::is_loopback), "{addresses:?}");
    }
}
