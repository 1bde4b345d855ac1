//! The peer: rustls with mutual authentication by RSA-2048, resumed from a server-side cache, that stores nothing.

use anyhow::{Context, Result};
use clap::Args;
use rustls::client::Resumption;
use rustls::server::{ServerSessionMemoryCache, WebPkiClientVerifier};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use std::sync::Arc;
use tms_core::signer::PemSigner;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// Bytes that the client sends and that the server answers, as a check-in's.
const REQUEST: usize = 300;
const ANSWER: usize = 100;

#[derive(Args)]
pub(crate) struct Options {}

/// Both sides' certificates: one RSA key each, under itself.
pub(crate) struct Keys {
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
}

impl Keys {
    pub(crate) fn generate() -> Result<Self> {
        let pem = PemSigner::generate(2048)?;
        let pair = rcgen::KeyPair::from_pem(&pem)?;
        let certificate = rcgen::CertificateParams::new(vec!["localhost".to_owned()])?.self_signed(&pair)?;
        Ok(Self {
            certificate: certificate.der().clone(),
            key: PrivateKeyDer::from_pem_slice(pem.as_bytes())?,
        })
    }

    fn from_words(words: &[String]) -> Result<Self> {
        let part = |index: usize| -> Result<Vec<u8>> {
            let word = words.get(index).context("the TLS server did not give its keys")?;
            (0..word.len() / 2)
                .map(|at| Ok(u8::from_str_radix(&word[2 * at..2 * at + 2], 16)?))
                .collect()
        };
        let key = PrivateKeyDer::try_from(part(1)?).map_err(anyhow::Error::msg)?;
        Ok(Self {
            certificate: part(0)?.into(),
            key,
        })
    }

    fn words(&self) -> String {
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        format!("{} {}", hex(&self.certificate), hex(self.key.secret_der()))
    }

    fn roots(&self) -> Result<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone())?;
        Ok(roots)
    }

    pub(crate) fn server(&self) -> Result<ServerConfig> {
        let verifier = WebPkiClientVerifier::builder(Arc::new(self.roots()?)).build()?;
        let mut config = ServerConfig::builder_with_protocol_versions(&[&rustls::version::TLS13])
            .with_client_cert_verifier(verifier)
            .with_single_cert(vec![self.certificate.clone()], self.key.clone_key())?;
        config.session_storage = ServerSessionMemoryCache::new(100_000);
        config.send_tls13_tickets = 1;
        Ok(config)
    }

    pub(crate) fn client(&self) -> Result<ClientConfig> {
        let mut config = ClientConfig::builder_with_protocol_versions(&[&rustls::version::TLS13])
            .with_root_certificates(self.roots()?)
            .with_client_auth_cert(vec![self.certificate.clone()], self.key.clone_key())?;
        config.resumption = Resumption::in_memory_sessions(64);
        Ok(config)
    }
}

pub(crate) async fn serve(_: &Options) -> Result<()> {
    let keys = Keys::generate()?;
    let acceptor = TlsAcceptor::from(Arc::new(keys.server()?));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{} {}", listener.local_addr()?, keys.words());
    loop {
        let (stream, _) = listener.accept().await?;
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            stream.set_nodelay(true)?;
            let mut stream = acceptor.accept(stream).await?;
            let mut request = [0; REQUEST];
            stream.read_exact(&mut request).await?;
            stream.write_all(&[0x41; ANSWER]).await?;
            stream.shutdown().await?;
            anyhow::Ok(())
        });
    }
}

/// A TLS client that resumes.
pub(crate) struct Client {
    keys: Arc<Keys>,
    connector: TlsConnector,
}

impl Client {
    pub(crate) fn new(words: &[String]) -> Result<Self> {
        let keys = Arc::new(Keys::from_words(words)?);
        let connector = TlsConnector::from(Arc::new(keys.client()?));
        Ok(Self { keys, connector })
    }

    /// Another client with the same keys, which resumes its own sessions.
    pub(crate) fn another(&self) -> Result<Self> {
        Ok(Self {
            keys: Arc::clone(&self.keys),
            connector: TlsConnector::from(Arc::new(self.keys.client()?)),
        })
    }

    /// One connection; gives whether it was resumed.
    pub(crate) async fn call(&self, address: &str) -> Result<bool> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let mut stream = self
            .connector
            .connect(ServerName::try_from("localhost")?, stream)
            .await?;
        stream.write_all(&[0x42; REQUEST]).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        anyhow::ensure!(answer.len() == ANSWER, "the TLS server's answer is cut");
        Ok(stream.get_ref().1.handshake_kind() == Some(rustls::HandshakeKind::Resumed))
    }
}
