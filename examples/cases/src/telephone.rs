//! The terminals' way to the server: telephone lines that end in an access device, which tells the server who calls.

use async_trait::async_trait;
use std::io;
use std::net::SocketAddr;
use tms_core::transport::proxied::header;
use tms_core::transport::tcp::TcpDial;
use tms_core::transport::{Caller, CallerNumber, CallerSource, Dial, Outgoing, PeerInfo, PhoneNumber, Trust};
use tokio::io::AsyncWriteExt;

/// A telephone line.
pub(crate) struct Telephone {
    /// Its number, as the exchange tells it to whoever is called.
    pub(crate) number: PhoneNumber,
    /// Where the access device finds the server.
    pub(crate) server: SocketAddr,
}

#[async_trait]
impl Dial for Telephone {
    async fn dial(&mut self) -> io::Result<Outgoing> {
        let mut call = TcpDial::new([self.server.to_string()]).dial().await?;
        let caller = Caller {
            number: CallerNumber::Known(self.number.clone()),
            source: CallerSource::Signalling,
            trust: Trust::Network,
        };
        let peer = PeerInfo {
            caller: Some(caller),
            ..PeerInfo::on_line("pool 1")
        };
        call.transport.write_all(&header(&peer, None, None)?).await?;
        Ok(call)
    }
}
