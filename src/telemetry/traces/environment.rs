//! What the standard `OTEL_*` variables say, checked at start. The SDK reads most of them itself, and passes over what
//! it does not understand: so everything is looked at here first.

use std::{fmt, str::FromStr, sync::Arc, time::Duration};

use http::{HeaderName, HeaderValue, Uri, uri::Scheme};
use opentelemetry_sdk::trace::{OTEL_BSP_EXPORT_TIMEOUT_DEFAULT, OTEL_BSP_MAX_QUEUE_SIZE_DEFAULT};
use rustls::ClientConfig;

use super::tls;

/// A variable that is honoured, for the reference.
#[derive(Clone, Copy, Debug)]
pub struct Variable {
    /// Its name.
    pub name: &'static str,
    /// What is in force without it.
    pub default: &'static str,
    /// What it says.
    pub description: &'static str,
}

macro_rules! variables {
    ($( $(#[doc = $doc:literal])+ $name:ident = $default:expr; )+) => {
        $( const $name: &str = stringify!($name); )+

        /// Every variable that is honoured.
        pub const VARIABLES: &[Variable] = &[
            $( Variable { name: $name, default: $default, description: concat!($($doc),+).trim_ascii() } ),+
        ];
    };
}

variables! {
    /// Address of the collector, such as `http://jaeger:4318`. With `http/protobuf`, `/v1/traces` is added to it. Without
    /// an address there are no traces.
    OTEL_EXPORTER_OTLP_ENDPOINT = "";
    /// The same for traces alone; nothing is added to it.
    OTEL_EXPORTER_OTLP_TRACES_ENDPOINT = "";
    /// `http/protobuf` or `grpc`.
    OTEL_EXPORTER_OTLP_PROTOCOL = "http/protobuf";
    /// The same for traces alone.
    OTEL_EXPORTER_OTLP_TRACES_PROTOCOL = "";
    /// What is sent along, as `name=value,name=value` with values percent-encoded: for instance an API key.
    OTEL_EXPORTER_OTLP_HEADERS = "";
    /// The same for traces alone.
    OTEL_EXPORTER_OTLP_TRACES_HEADERS = "";
    /// How many milliseconds one export may take.
    OTEL_EXPORTER_OTLP_TIMEOUT = "10000";
    /// The same for traces alone.
    OTEL_EXPORTER_OTLP_TRACES_TIMEOUT = "";
    /// `gzip` or `none`.
    OTEL_EXPORTER_OTLP_COMPRESSION = "none";
    /// The same for traces alone.
    OTEL_EXPORTER_OTLP_TRACES_COMPRESSION = "";
    /// File with the certificates, in PEM, of the authorities that the collector's is checked against; by default those
    /// of the system.
    OTEL_EXPORTER_OTLP_CERTIFICATE = "";
    /// The same for traces alone.
    OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE = "";
    /// File with the operator's own certificate, in PEM, for a collector that asks for one.
    OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE = "";
    /// The same for traces alone.
    OTEL_EXPORTER_OTLP_TRACES_CLIENT_CERTIFICATE = "";
    /// File with the key of that certificate, in PEM.
    OTEL_EXPORTER_OTLP_CLIENT_KEY = "";
    /// The same for traces alone.
    OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY = "";
    /// `otlp`, or `none`: no traces, whatever address is set.
    OTEL_TRACES_EXPORTER = "otlp";
    /// `true`: no traces, whatever address is set.
    OTEL_SDK_DISABLED = "false";
    /// `service.name` of every span.
    OTEL_SERVICE_NAME = env!("CARGO_PKG_NAME");
    /// More about the process, as `name=value,name=value`. `service.version`, `service.instance.id`,
    /// `k8s.namespace.name` and `k8s.pod.name` are there without it.
    OTEL_RESOURCE_ATTRIBUTES = "";
    /// Which traces are made: `always_on`, `always_off`, `traceidratio`, each also as `parentbased_...`.
    OTEL_TRACES_SAMPLER = "parentbased_always_on";
    /// The share of traces that `traceidratio` makes: 0 to 1.
    OTEL_TRACES_SAMPLER_ARG = "1";
    /// How many milliseconds at most a span waits for others to be sent with.
    OTEL_BSP_SCHEDULE_DELAY = "5000";
    /// How many spans may wait to be sent. A trace that has no room is dropped, and counted.
    OTEL_BSP_MAX_QUEUE_SIZE = "2048";
    /// How many spans are sent at once.
    OTEL_BSP_MAX_EXPORT_BATCH_SIZE = "512";
    /// How many milliseconds one batch may take, with all that is tried again.
    OTEL_BSP_EXPORT_TIMEOUT = "30000";
    /// The most attributes of a span.
    OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT = "128";
    /// The most events of a span.
    OTEL_SPAN_EVENT_COUNT_LIMIT = "128";
    /// The most links of a span.
    OTEL_SPAN_LINK_COUNT_LIMIT = "128";
}

/// How the collector is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    Http,
    Grpc,
}

/// Where traces go, and how.
#[derive(Clone, Debug)]
pub struct Settings {
    pub(super) protocol: Protocol,
    pub(super) endpoint: Uri,
    pub(super) timeout: Duration,
    pub(super) queue_size: usize,
    pub(super) patience: Duration,
    pub(super) tls: Arc<ClientConfig>,
}

/// Every variable that is wrong.
#[derive(Debug, Default)]
pub struct BadVariables(pub Vec<String>);

impl fmt::Display for BadVariables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

impl Settings {
    /// What the variables say; none: there are no traces.
    pub fn read(lookup: impl Fn(&str) -> Option<String>) -> Result<Option<Self>, BadVariables> {
        let mut reader = Reader { lookup, bad: BadVariables::default() };
        let settings = reader.settings();
        if reader.bad.0.is_empty() { Ok(settings) } else { Err(reader.bad) }
    }
}

struct Reader<L> {
    lookup: L,
    bad: BadVariables,
}

impl<L: Fn(&str) -> Option<String>> Reader<L> {
    fn settings(&mut self) -> Option<Settings> {
        let disabled = self.check(&[OTEL_SDK_DISABLED], one_of(&["true", "false"]));
        let exporter = self.check(&[OTEL_TRACES_EXPORTER], one_of(&["otlp", "none"]));
        if disabled.as_deref() == Some("true") || exporter.as_deref() == Some("none") {
            return None;
        }
        let own = self.get(OTEL_EXPORTER_OTLP_TRACES_ENDPOINT).is_some();
        let addresses = [OTEL_EXPORTER_OTLP_TRACES_ENDPOINT, OTEL_EXPORTER_OTLP_ENDPOINT];
        // It may hold a password, which is one of the things that can be wrong with it.
        let endpoint = self.check_secret(&addresses, endpoint);
        let protocols = [OTEL_EXPORTER_OTLP_TRACES_PROTOCOL, OTEL_EXPORTER_OTLP_PROTOCOL];
        let protocol = match endpoint {
            None => return None,
            Some(_) => self.check(&protocols, protocol).unwrap_or(Protocol::Http),
        };
        self.check_what_the_sdk_reads();
        let timeout = self.check(&[OTEL_EXPORTER_OTLP_TRACES_TIMEOUT, OTEL_EXPORTER_OTLP_TIMEOUT], milliseconds);
        let queue_size = self.check(&[OTEL_BSP_MAX_QUEUE_SIZE], number(1..=100_000));
        let patience = self.check(&[OTEL_BSP_EXPORT_TIMEOUT], milliseconds);
        let endpoint = endpoint.map(|base| if own || protocol == Protocol::Grpc { base } else { for_traces(&base) });
        let tls = self.tls(endpoint.as_ref()?.scheme() == Some(&Scheme::HTTPS));
        Some(Settings {
            protocol,
            endpoint: endpoint?,
            timeout: timeout.unwrap_or(Duration::from_secs(10)),
            queue_size: queue_size.map_or(OTEL_BSP_MAX_QUEUE_SIZE_DEFAULT, |size| size as usize),
            patience: patience.unwrap_or(OTEL_BSP_EXPORT_TIMEOUT_DEFAULT),
            tls: tls?,
        })
    }

    fn check_what_the_sdk_reads(&mut self) {
        self.check_secret(&[OTEL_EXPORTER_OTLP_TRACES_HEADERS, OTEL_EXPORTER_OTLP_HEADERS], headers);
        let compressions = [OTEL_EXPORTER_OTLP_TRACES_COMPRESSION, OTEL_EXPORTER_OTLP_COMPRESSION];
        self.check(&compressions, one_of(&["gzip", "none"]));
        self.check(&[OTEL_RESOURCE_ATTRIBUTES], pairs);
        let samplers = ["always_on", "always_off", "traceidratio"];
        let based = ["parentbased_always_on", "parentbased_always_off", "parentbased_traceidratio"];
        let sampler = self.check(&[OTEL_TRACES_SAMPLER], one_of(&[samplers, based].concat()));
        let argument = self.check(&[OTEL_TRACES_SAMPLER_ARG], ratio);
        if sampler.is_some_and(|sampler| sampler.ends_with("ratio")) && argument.is_none() {
            let problem = "is required by the sampler: the share of traces, 0 to 1, such as 0.1";
            self.bad.0.push(format!("{OTEL_TRACES_SAMPLER_ARG}: {problem}"));
        }
        self.check(&[OTEL_BSP_SCHEDULE_DELAY], milliseconds);
        self.check(&[OTEL_BSP_MAX_EXPORT_BATCH_SIZE], number(1..=100_000));
        let limits = [OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT, OTEL_SPAN_EVENT_COUNT_LIMIT, OTEL_SPAN_LINK_COUNT_LIMIT];
        for limit in limits {
            self.check(&[limit], number(0..=100_000));
        }
    }

    fn tls(&mut self, is_used: bool) -> Option<Arc<ClientConfig>> {
        let authorities = [OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE, OTEL_EXPORTER_OTLP_CERTIFICATE];
        let authorities = self.check(&authorities, tls::certificates);
        let own = [OTEL_EXPORTER_OTLP_TRACES_CLIENT_CERTIFICATE, OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE];
        let certificate = self.check(&own, tls::certificates);
        let key = self.check(&[OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY, OTEL_EXPORTER_OTLP_CLIENT_KEY], tls::key);
        let identity = match (certificate, key) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            _ => {
                let both = "must be set together, or neither";
                let names = format!("{OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE}, {OTEL_EXPORTER_OTLP_CLIENT_KEY}");
                self.bad.0.push(format!("{names}: {both}"));
                return None;
            }
        };
        // Where it is not used, a system without any authorities will do.
        let config = tls::config(if is_used { authorities } else { Some(Vec::new()) }, identity);
        config.map_err(|problem| self.bad.0.push(format!("OTEL_EXPORTER_OTLP_*CERTIFICATE: {problem}"))).ok()
    }

    fn get(&self, name: &str) -> Option<String> {
        (self.lookup)(name).filter(|value| !value.is_empty())
    }

    /// The first variable that is set, understood; or nothing, and the problem is noted.
    fn check<T>(&mut self, names: &[&str], parse: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        self.check_as(names, parse, |value| format!(" = {value:?}"))
    }

    /// The same, without repeating the value.
    fn check_secret<T>(&mut self, names: &[&str], parse: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        self.check_as(names, parse, |_| String::new())
    }

    fn check_as<T>(
        &mut self,
        names: &[&str],
        parse: impl Fn(&str) -> Result<T, String>,
        shown: impl Fn(&str) -> String,
    ) -> Option<T> {
        let (name, value) = names.iter().find_map(|name| Some((name, self.get(name)?)))?;
        parse(&value).map_err(|problem| self.bad.0.push(format!("{name}{}: {problem}", shown(&value)))).ok()
    }
}

fn one_of(words: &[&str]) -> impl Fn(&str) -> Result<String, String> {
    move |text| match words.contains(&text.to_lowercase().as_str()) {
        true => Ok(text.to_lowercase()),
        false => Err(format!("must be one of: {}", words.join(", "))),
    }
}

fn protocol(text: &str) -> Result<Protocol, String> {
    match text {
        "http/protobuf" => Ok(Protocol::Http),
        "grpc" => Ok(Protocol::Grpc),
        _ => Err("must be http/protobuf or grpc".into()),
    }
}

fn endpoint(text: &str) -> Result<Uri, String> {
    let parsed = text.parse::<Uri>().ok();
    let speaks = |uri: &Uri| [Some(&Scheme::HTTP), Some(&Scheme::HTTPS)].contains(&uri.scheme());
    let uri = parsed.filter(speaks).ok_or("must be an address such as http://jaeger:4318 or https://collector:4317")?;
    match uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        true => Err("must hold no user and password: set OTEL_EXPORTER_OTLP_HEADERS".into()),
        false => Ok(uri),
    }
}

/// The collector's address with the path of its signal.
fn for_traces(base: &Uri) -> Uri {
    let path = format!("{}/v1/traces", base.path().trim_end_matches('/'));
    let mut parts = base.clone().into_parts();
    parts.path_and_query = path.parse().ok();
    Uri::from_parts(parts).unwrap_or_else(|_| base.clone())
}

fn milliseconds(text: &str) -> Result<Duration, String> {
    let parsed = text.parse().ok().filter(|number| (1..=3_600_000).contains(number));
    parsed.map(Duration::from_millis).ok_or_else(|| "must be a number of milliseconds from 1 to 3600000".into())
}

fn number(range: std::ops::RangeInclusive<u32>) -> impl Fn(&str) -> Result<u32, String> {
    move |text| {
        let parsed = u32::from_str(text).ok().filter(|number| range.contains(number));
        parsed.ok_or_else(|| format!("must be a number from {} to {}", range.start(), range.end()))
    }
}

fn ratio(text: &str) -> Result<f64, String> {
    let parsed = text.parse().ok().filter(|ratio| (0.0..=1.0).contains(ratio));
    parsed.ok_or_else(|| "must be a number from 0 to 1".into())
}

fn headers(text: &str) -> Result<(), String> {
    let is_header = |entry: &str| {
        let header = entry.split_once('=').map(|(name, value)| (name.trim(), value.trim()));
        header.is_some_and(|(name, value)| {
            HeaderName::from_str(name).is_ok() && !value.is_empty() && HeaderValue::from_str(value).is_ok()
        })
    };
    let all = text.split_terminator(',').all(is_header);
    all.then_some(()).ok_or_else(|| "must be name=value,name=value, with values percent-encoded".into())
}

fn pairs(text: &str) -> Result<(), String> {
    let all =
        text.split_terminator(',').all(|entry| entry.split_once('=').is_some_and(|(key, _)| !key.trim().is_empty()));
    all.then_some(()).ok_or_else(|| "must be name=value,name=value".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn read(variables: &[(&str, &str)]) -> Result<Option<Settings>, BadVariables> {
        let variables: BTreeMap<_, _> = variables.iter().copied().collect();
        Settings::read(|name| variables.get(name).map(ToString::to_string))
    }

    const SOMEWHERE: (&str, &str) = (OTEL_EXPORTER_OTLP_ENDPOINT, "http://127.0.0.1:4318");

    #[test]
    fn without_an_address_or_if_told_so_there_are_no_traces() {
        for off in [
            &[][..],
            &[(OTEL_EXPORTER_OTLP_ENDPOINT, "")],
            &[SOMEWHERE, (OTEL_SDK_DISABLED, "TRUE")],
            &[SOMEWHERE, (OTEL_TRACES_EXPORTER, "none")],
        ] {
            assert!(read(off).unwrap().is_none(), "{off:?}");
        }
    }

    #[test]
    fn the_address_is_that_of_the_signal_or_gets_its_path() {
        let of = |variables: &[(&str, &str)]| read(variables).unwrap().unwrap().endpoint.to_string();
        assert_eq!(of(&[SOMEWHERE]), "http://127.0.0.1:4318/v1/traces");
        assert_eq!(of(&[(OTEL_EXPORTER_OTLP_ENDPOINT, "https://c:1/otlp/")]), "https://c:1/otlp/v1/traces");
        assert_eq!(of(&[SOMEWHERE, (OTEL_EXPORTER_OTLP_TRACES_ENDPOINT, "http://c/x")]), "http://c/x");
        assert_eq!(of(&[SOMEWHERE, (OTEL_EXPORTER_OTLP_PROTOCOL, "grpc")]), "http://127.0.0.1:4318/");
    }

    #[test]
    fn what_is_wrong_is_told_all_at_once_and_no_header_is_repeated() {
        let bad = read(&[
            SOMEWHERE,
            (OTEL_EXPORTER_OTLP_PROTOCOL, "carrier-pigeon"),
            (OTEL_EXPORTER_OTLP_HEADERS, "hunter2"),
            (OTEL_EXPORTER_OTLP_TIMEOUT, "soon"),
            (OTEL_BSP_MAX_QUEUE_SIZE, "0"),
            (OTEL_TRACES_SAMPLER, "traceidratio"),
            (OTEL_EXPORTER_OTLP_CERTIFICATE, "/nonexistent.pem"),
        ]);
        let told = bad.unwrap_err().to_string();
        for expected in [
            "OTEL_EXPORTER_OTLP_PROTOCOL = \"carrier-pigeon\": must be http/protobuf or grpc",
            "OTEL_EXPORTER_OTLP_HEADERS: must be name=value",
            "OTEL_EXPORTER_OTLP_TIMEOUT = \"soon\"",
            "OTEL_BSP_MAX_QUEUE_SIZE = \"0\": must be a number from 1 to 100000",
            "OTEL_TRACES_SAMPLER_ARG: is required",
            "OTEL_EXPORTER_OTLP_CERTIFICATE = \"/nonexistent.pem\": cannot be read",
        ] {
            assert!(told.contains(expected), "{expected}\n{told}");
        }
        assert!(!told.contains("hunter2"), "{told}");
        for address in ["127.0.0.1:4318", "ftp://c", "not an address"] {
            assert!(read(&[(OTEL_EXPORTER_OTLP_ENDPOINT, address)]).is_err(), "{address}");
        }
        let told = read(&[(OTEL_EXPORTER_OTLP_ENDPOINT, "http://u:hunter2@c")]).unwrap_err().to_string();
        assert!(told.contains("OTEL_EXPORTER_OTLP_HEADERS"), "{told}");
    }
}
