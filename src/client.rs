//! How the API server is reached: each call of the operator passes the layers that are put together here, whatever
//! connections carry it.

use hyper_timeout::TimeoutConnector;
use hyper_util::{
    client::legacy::{
        self,
        connect::{Connection, HttpConnector},
    },
    rt::{TokioExecutor, TokioIo},
};
use kube::{
    Client, Config,
    client::{Body, ConfigExt},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tower::{BoxError, ServiceBuilder, ServiceExt};

use crate::telemetry::{Metrics, traces};

/// Why a configuration gives no client.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// Connections are made to the API server itself. The address of the proxy is not told: it may hold a password.
    #[error(
        "it names a proxy, which the operator cannot use; remove proxy-url from the kubeconfig, and HTTPS_PROXY from \
         the environment"
    )]
    Proxy,
    /// Certificates, names or credentials.
    #[error("{0}; check the certificates and the user in the kubeconfig")]
    Config(#[source] Box<kube::Error>),
}

impl From<kube::Error> for Unusable {
    fn from(error: kube::Error) -> Self {
        Self::Config(Box::new(error))
    }
}

/// A client like [`Client::try_from`] makes it, on connections that each pass `admit` before their first byte. Every
/// call is counted, and a span where it is a part of an attempt.
pub fn client<S, E>(
    config: &Config,
    metrics: &Metrics,
    admit: impl Fn(TcpStream) -> Result<S, E> + Clone + Send + Sync + 'static,
) -> Result<Client, Unusable>
where
    S: AsyncRead + AsyncWrite + Connection + Send + Unpin + 'static,
    E: Into<BoxError> + 'static,
{
    if config.proxy_url.is_some() {
        return Err(Unusable::Proxy);
    }
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    let admitted = tcp.map_result(move |connected| {
        let stream: TokioIo<TcpStream> = connected.map_err(BoxError::from)?;
        admit(stream.into_inner()).map(TokioIo::new).map_err(E::into)
    });
    // The timeouts are around TLS, whose handshake is a part of connecting.
    let mut connector = TimeoutConnector::new(config.rustls_https_connector_with_connector(admitted)?);
    connector.set_connect_timeout(config.connect_timeout);
    connector.set_read_timeout(config.read_timeout);
    connector.set_write_timeout(config.write_timeout);
    connector.set_reset_reader_on_write(config.reset_reader_on_write);

    let service = ServiceBuilder::new()
        .layer(metrics.api_calls())
        .layer(traces::client_layer(&config.cluster_url))
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .service(legacy::Client::builder(TokioExecutor::new()).build::<_, Body>(connector));
    Ok(Client::new(service, config.default_namespace.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_is_refused_and_its_password_not_told() {
        let mut config = Config::new("https://127.0.0.1:1".parse().unwrap());
        config.proxy_url = Some("http://user:hunter2@127.0.0.1:3128".parse().unwrap());
        let refused = client(&config, &Metrics::new(true), Ok::<_, BoxError>).err().unwrap();
        assert!(matches!(refused, Unusable::Proxy));
        assert!(!format!("{refused} {refused:?}").contains("hunter2"));
    }
}
