//! From the settings to what makes spans and sends them.

use std::{sync::Arc, time::Duration};

use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use opentelemetry::{KeyValue, trace::TracerProvider};
use opentelemetry_http::hyper::HyperClient;
use opentelemetry_otlp::{
    ExporterBuildError, Protocol as Otlp, SpanExporter, WithExportConfig, WithHttpConfig, WithTonicConfig,
};
use opentelemetry_sdk::{
    Resource,
    trace::{BatchSpanProcessor, SdkTracerProvider},
};
use tokio::runtime::Handle;
use tonic::transport::Endpoint;
use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::{Layer, filter::filter_fn, registry::LookupSpan};

use super::{
    TARGET,
    deliver::Deliver,
    environment::{Protocol, Settings},
    keep::{Keep, Ledger},
};
use crate::telemetry::Metrics;

/// How long the last spans may take to leave when the process ends.
const FLUSH: Duration = Duration::from_secs(2);

/// Which replica it is that makes the spans.
#[derive(Clone, Debug)]
pub struct Replica {
    /// A name that no other process has.
    pub instance: String,
    /// Its namespace.
    pub namespace: String,
    /// Name of its pod, if it has been told.
    pub pod: Option<String>,
}

/// Makes spans and sends them to the collector; or, if none is set, nothing.
#[derive(Clone, Debug, Default)]
pub struct Traces(Option<Running>);

#[derive(Clone, Debug)]
struct Running {
    provider: SdkTracerProvider,
    ledger: Arc<Ledger>,
}

impl Traces {
    /// No spans are made.
    pub fn off() -> Self {
        Self::default()
    }

    /// Spans are made, and sent nowhere.
    #[cfg(test)]
    pub(crate) fn for_tests() -> Self {
        let ledger = Arc::new(Ledger::new(Metrics::new(true)));
        Self(Some(Running { provider: SdkTracerProvider::builder().build(), ledger }))
    }

    /// Begins. What is sent is sent on the runtime; what is lost is counted in the metrics.
    pub fn start(
        settings: &Settings,
        replica: &Replica,
        metrics: &Metrics,
        runtime: &Handle,
    ) -> Result<Self, ExporterBuildError> {
        let _runtime = runtime.enter();
        let ledger = Arc::new(Ledger::new(metrics.clone()));
        let deliver = Deliver::new(exporter(settings)?, runtime.clone(), ledger.clone(), settings.patience);
        let batches = BatchSpanProcessor::builder(deliver).build();
        let keep = Keep::new(batches, settings.queue_size, ledger.clone());
        let provider = SdkTracerProvider::builder().with_resource(resource(replica)).with_span_processor(keep).build();
        Ok(Self(Some(Running { provider, ledger })))
    }

    /// What sees the spans of the process. It sees no events: what is logged goes to the log alone.
    pub fn layer<S>(&self) -> Option<impl Layer<S> + use<S>>
    where
        S: Subscriber + for<'span> LookupSpan<'span> + Send + Sync,
    {
        let running = self.0.as_ref()?;
        Some(layer(&running.provider))
    }

    /// Spans that were worth keeping and are lost: no room in the queue, or a collector that does not take them.
    fn dropped(&self) -> u64 {
        self.0.as_ref().map_or(0, |running| running.ledger.dropped())
    }

    /// Sends what is left, within a bound; what ends afterwards is lost. To be called while the runtime lives.
    pub fn finish(&self) {
        let Some(running) = &self.0 else { return };
        if running.provider.shutdown_with_timeout(FLUSH).is_err() {
            tracing::warn!("leaving with traces that could not be sent");
        }
        if self.dropped() > 0 {
            tracing::warn!(spans = self.dropped(), "spans were dropped since the start");
        }
    }
}

/// The layer that turns our spans into those of the provider.
pub(super) fn layer<S>(provider: &SdkTracerProvider) -> impl Layer<S> + use<S>
where
    S: Subscriber + for<'span> LookupSpan<'span> + Send + Sync,
{
    let tracer = provider.tracer(env!("CARGO_PKG_NAME"));
    let layer = tracing_opentelemetry::layer().with_tracer(tracer);
    let layer = layer.with_location(false).with_threads(false).with_level(false).with_target(false);
    layer.with_tracked_inactivity(false).with_filter(filter_fn(is_ours).with_max_level_hint(Level::INFO))
}

fn is_ours(metadata: &Metadata<'_>) -> bool {
    metadata.is_span() && metadata.target() == TARGET
}

fn exporter(settings: &Settings) -> Result<SpanExporter, ExporterBuildError> {
    let connector = HttpsConnectorBuilder::new().with_tls_config((*settings.tls).clone()).https_or_http();
    match settings.protocol {
        Protocol::Http => {
            let client: HyperClient<HttpsConnector<HttpConnector>> =
                HyperClient::new(connector.enable_http1().build(), settings.timeout, None);
            let exporter = SpanExporter::builder().with_http().with_http_client(client);
            let exporter = exporter.with_protocol(Otlp::HttpBinary).with_timeout(settings.timeout);
            exporter.with_endpoint(settings.endpoint.to_string()).build()
        }
        Protocol::Grpc => {
            let endpoint = Endpoint::from(settings.endpoint.clone()).timeout(settings.timeout);
            let endpoint = endpoint.connect_timeout(settings.timeout);
            let channel = endpoint.connect_with_connector_lazy(connector.enable_http2().build());
            SpanExporter::builder().with_tonic().with_channel(channel).with_timeout(settings.timeout).build()
        }
    }
}

/// What the variables say wins.
fn resource(replica: &Replica) -> Resource {
    let own = [
        Some(KeyValue::new("service.name", env!("CARGO_PKG_NAME"))),
        Some(KeyValue::new("service.version", env!("CARGO_PKG_VERSION"))),
        Some(KeyValue::new("service.instance.id", replica.instance.clone())),
        Some(KeyValue::new("k8s.namespace.name", replica.namespace.clone())),
        replica.pod.clone().map(|pod| KeyValue::new("k8s.pod.name", pod)),
    ];
    let told = Resource::builder().build();
    let is_told = |own: &KeyValue| {
        let told = told.get_ref(&own.key);
        told.is_some_and(|value| !value.as_str().starts_with("unknown_service"))
    };
    let own = own.into_iter().flatten().filter(|own| !is_told(own));
    Resource::builder().with_attributes(own).build()
}
