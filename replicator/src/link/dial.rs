//! Calls the peer: every configured address in order of preference.

use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use super::LinkError;
use super::channel::{Channel, HANDSHAKE_TIMEOUT, Inbox};
use super::tls::Credentials;

/// A node that is there answers in a fraction of this, also through a busy processor.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(1000);

/// Connects to the first address that answers and authenticates. The error is that of the first address, the preferred one.
pub fn dial(
    addresses: &[SocketAddr],
    credentials: &Credentials,
) -> Result<(Arc<Channel>, Inbox), LinkError> {
    let mut first = None;
    for address in addresses {
        match attempt(address, credentials) {
            Ok(channel) => return Ok((Arc::new(channel), Inbox::default())),
            Err(error) => first = first.or(Some(error)),
        }
    }
    Err(first.unwrap_or(LinkError::Refused(
        "no address to dial is configured".to_owned(),
    )))
}

fn attempt(address: &SocketAddr, credentials: &Credentials) -> Result<Channel, LinkError> {
    let stream = TcpStream::connect_timeout(address, CONNECT_TIMEOUT)?;
    let channel = Channel::dial(stream, credentials)?;
    channel.set_timeout(HANDSHAKE_TIMEOUT)?;
    Ok(channel)
}
