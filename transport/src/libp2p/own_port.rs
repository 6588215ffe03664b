//! TCP dials from a port of their own.

use std::pin::Pin;
use std::task::{Context, Poll};

use libp2p::Multiaddr;
use libp2p::core::Endpoint;
use libp2p::core::transport::{DialOpts, ListenerId, PortUse, Transport, TransportError, TransportEvent};

/// libp2p dials TCP from the port it listens on. When two peers do so to each other at the same moment, the system makes one
/// connection of the two dials (RFC 9293, section 3.5, "simultaneous open"): both ends take themselves for the initiator and the
/// handshake fails, on both sides. So an ordinary dial leaves from a port of its own; one that punches a hole, where libp2p
/// agrees on the roles before, keeps the port of the listener.
#[derive(Debug)]
pub(super) struct OwnPort<T>(pub(super) T);

impl<T: Transport + Unpin> Transport for OwnPort<T> {
    type Output = T::Output;
    type Error = T::Error;
    type ListenerUpgrade = T::ListenerUpgrade;
    type Dial = T::Dial;

    fn listen_on(&mut self, id: ListenerId, address: Multiaddr) -> Result<(), TransportError<Self::Error>> {
        self.0.listen_on(id, address)
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.0.remove_listener(id)
    }

    fn dial(&mut self, address: Multiaddr, options: DialOpts) -> Result<Self::Dial, TransportError<Self::Error>> {
        let port_use = if options.role == Endpoint::Dialer { PortUse::New } else { options.port_use };
        self.0.dial(address, DialOpts { port_use, ..options })
    }

    fn poll(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, Self::Error>> {
        Pin::new(&mut self.0).poll(context)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::net::{Ipv4Addr, SocketAddr, TcpListener};

    use libp2p::multiaddr::Protocol;
    use libp2p::tcp;

    use super::*;

    /// Two dials that cross are too rare a moment to wait for: the ports tell whether they can meet.
    #[tokio::test]
    async fn a_dial_leaves_from_a_port_of_its_own_and_a_hole_is_punched_from_the_listeners() {
        let mut transport = OwnPort(tcp::tokio::Transport::new(tcp::Config::default()));
        transport.listen_on(ListenerId::next(), "/ip4/127.0.0.1/tcp/0".parse().unwrap()).unwrap();
        let event = poll_fn(|context| Pin::new(&mut transport).poll(context)).await;
        let TransportEvent::NewAddress { listen_addr, .. } = event else { panic!("{event:?}") };
        let Some(Protocol::Tcp(listening)) = listen_addr.iter().last() else { panic!("{listen_addr}") };
        for (role, from_listener) in [(Endpoint::Dialer, false), (Endpoint::Listener, true)] {
            let other = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
            let address = format!("/ip4/127.0.0.1/tcp/{}", other.local_addr().unwrap().port()).parse().unwrap();
            let dial = transport.dial(address, DialOpts { role, port_use: PortUse::Reuse }).unwrap();
            let _connection = dial.await.unwrap();
            let (_, from) = other.accept().unwrap();
            assert_eq!(from.port() == listening, from_listener, "{role:?} from {from}, listening on {listening}");
        }
    }
}
