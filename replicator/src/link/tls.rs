//! Who may speak to this node: TLS 1.3, and a certificate of the cluster's CA that names exactly the configured peer.
//!
//! The peer's name is checked on both sides of the handshake, so a node of the same cluster that is not the peer is refused
//! like a stranger, before a byte of ours is read.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{NoServerSessionStorage, ParsedCertificate, WebPkiClientVerifier};
use rustls::{
    ClientConfig, ClientConnection, Connection, DigitallySignedStruct, DistinguishedName,
    RootCertStore, ServerConfig, ServerConnection, SignatureScheme,
};

/// Why the credentials cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("cannot read {what} from {}: {source}", path.display())]
    Unreadable {
        what: &'static str,
        path: PathBuf,
        source: rustls::pki_types::pem::Error,
    },
    #[error("{} holds no certificate: copy the cluster's credentials to this node again", .0.display())]
    Empty(PathBuf),
    #[error(
        "the credentials do not fit together ({0}): copy the cluster's credentials to this node again"
    )]
    Unfit(String),
    #[error("{0:?} cannot be a node's name in a certificate: use letters, digits and hyphens")]
    Name(String),
}

/// Where the node's credentials lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CredentialPaths {
    pub authority: PathBuf,
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// Both sides' TLS configuration for one peer.
#[derive(Clone, Debug)]
pub struct Credentials {
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
    peer: ServerName<'static>,
}

impl Credentials {
    /// Loads the node's credentials and binds them to the one peer they are used with.
    pub fn load(paths: &CredentialPaths, peer: &str) -> Result<Credentials, TlsError> {
        let peer_name =
            ServerName::try_from(peer.to_owned()).map_err(|_| TlsError::Name(peer.to_owned()))?;
        let provider = Arc::new(provider());
        let mut roots = RootCertStore::empty();
        for certificate in certificates("the CA", &paths.authority)? {
            roots.add(certificate).map_err(unfit)?;
        }
        let roots = Arc::new(roots);
        let chain = certificates("the certificate", &paths.certificate)?;
        let key =
            PrivateKeyDer::from_pem_file(&paths.key).map_err(|source| TlsError::Unreadable {
                what: "the key",
                path: paths.key.clone(),
                source,
            })?;

        let inner = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone())
            .build()
            .map_err(unfit)?;
        let verifier = Arc::new(OnlyPeer {
            inner,
            peer: peer_name.clone(),
        });
        let versions = [&rustls::version::TLS13];
        let mut server = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&versions)
            .map_err(unfit)?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain.clone(), key.clone_key())
            .map_err(unfit)?;
        // A session is a new handshake, always: a ticket would outlive a certificate that was taken back.
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.send_tls13_tickets = 0;

        let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider.clone())
            .build()
            .map_err(unfit)?;
        let mut client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&versions)
            .map_err(unfit)?
            .with_webpki_verifier(verifier)
            .with_client_auth_cert(chain, key)
            .map_err(unfit)?;
        client.resumption = rustls::client::Resumption::disabled();
        Ok(Credentials {
            server: Arc::new(server),
            client: Arc::new(client),
            peer: peer_name,
        })
    }

    pub(super) fn accepting(&self) -> Result<Connection, rustls::Error> {
        Ok(Connection::Server(ServerConnection::new(
            self.server.clone(),
        )?))
    }

    pub(super) fn dialling(&self) -> Result<Connection, rustls::Error> {
        let connection = ClientConnection::new(self.client.clone(), self.peer.clone())?;
        Ok(Connection::Client(connection))
    }
}

/// AES-128 first: both ends have the instructions, and its records cost the commit path least.
fn provider() -> CryptoProvider {
    use ring::cipher_suite as suite;
    let cipher_suites = vec![
        suite::TLS13_AES_128_GCM_SHA256,
        suite::TLS13_AES_256_GCM_SHA384,
        suite::TLS13_CHACHA20_POLY1305_SHA256,
    ];
    CryptoProvider {
        cipher_suites,
        ..ring::default_provider()
    }
}

fn certificates(what: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let unreadable = |source| TlsError::Unreadable {
        what,
        path: path.to_owned(),
        source,
    };
    let found: Vec<_> = CertificateDer::pem_file_iter(path)
        .map_err(unreadable)?
        .collect::<Result<_, _>>()
        .map_err(unreadable)?;
    if found.is_empty() {
        Err(TlsError::Empty(path.to_owned()))
    } else {
        Ok(found)
    }
}

#[allow(clippy::needless_pass_by_value)] // used as a function in map_err
fn unfit(error: impl ToString) -> TlsError {
    TlsError::Unfit(error.to_string())
}

/// Accepts a client only with a certificate of the cluster that names the peer.
#[derive(Debug)]
struct OnlyPeer {
    inner: Arc<dyn ClientCertVerifier>,
    peer: ServerName<'static>,
}

impl ClientCertVerifier for OnlyPeer {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let verified = self
            .inner
            .verify_client_cert(end_entity, intermediates, now)?;
        let certificate = ParsedCertificate::try_from(end_entity)?;
        rustls::client::verify_server_name(&certificate, &self.peer)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner
            .verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner
            .verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}
