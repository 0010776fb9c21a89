//! Logs: JSON or text on stderr.

use std::{
    fmt as text,
    io::{self, IsTerminal},
    sync::{Arc, Mutex, PoisonError},
};

use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::{
    EnvFilter, Layer,
    filter::{FilterExt, filter_fn},
    fmt::{
        self, FmtContext, FormatEvent, FormatFields, MakeWriter,
        format::{FmtSpan, Writer},
    },
    layer::SubscriberExt,
    registry::LookupSpan,
    reload,
    util::SubscriberInitExt,
};

use super::traces::{self, Traces};

/// How a line of the log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// One JSON object per line.
    Json,
    /// Text for people; in colour on a terminal, unless NO_COLOR is set.
    Text,
}

/// What to log: directives that have been understood, such as `info` or `info,kube_runtime=debug`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFilter(String);

/// Directives that cannot be understood.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct InvalidDirectives(String);

/// A refused or interrupted watch is told once, in the operator's own words: namespaces that have not delegated
/// are no warning. Whoever names the target sees kube's words too.
const OURS_TO_TELL: &str = "kube_runtime::watcher=error";

impl LogFilter {
    /// Checks the directives.
    pub fn parse(directives: &str) -> Result<Self, InvalidDirectives> {
        if directives.trim().is_empty() {
            return Err(InvalidDirectives("is empty".into()));
        }
        EnvFilter::builder().parse(directives).map_err(|error| InvalidDirectives(error.to_string()))?;
        Ok(Self(directives.into()))
    }

    fn to_env_filter(&self) -> EnvFilter {
        EnvFilter::builder().parse_lossy(format!("{OURS_TO_TELL},{}", self.0))
    }
}

/// What is logged now, and how to log something else. Cheap to clone.
#[derive(Clone)]
pub struct LogLevel {
    in_force: Arc<Mutex<LogFilter>>,
    reload: Arc<dyn Fn(&LogFilter) + Send + Sync>,
}

impl LogLevel {
    /// The directives in force.
    pub fn get(&self) -> String {
        self.in_force.lock().unwrap_or_else(PoisonError::into_inner).0.clone()
    }

    /// One that is not the process's; it lives as long as the subscriber.
    #[cfg(test)]
    pub(super) fn for_tests(format: LogFormat, directives: &str) -> (Self, impl Subscriber + Send + Sync + use<>) {
        let filter = LogFilter::parse(directives).unwrap();
        let (subscriber, level) = subscriber(format, &filter, false, &Traces::off(), io::sink);
        (level, subscriber)
    }

    /// Puts others in force. What could show content stays hidden whatever they say.
    pub fn set(&self, filter: LogFilter) {
        let mut in_force = self.in_force.lock().unwrap_or_else(PoisonError::into_inner);
        (self.reload)(&filter);
        *in_force = filter;
    }
}

/// Starts logging to stderr, and making spans, for the whole process and once; panics are logged without what they say.
pub fn init(format: LogFormat, filter: &LogFilter, traces: &Traces) -> LogLevel {
    let colours = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let (subscriber, level) = subscriber(format, filter, colours, traces, io::stderr);
    if subscriber.try_init().is_err() {
        tracing::warn!("logging was started before; its settings stay");
    }
    std::panic::set_hook(Box::new(report_panic));
    level
}

fn subscriber<W>(
    format: LogFormat,
    filter: &LogFilter,
    colours: bool,
    traces: &Traces,
    writer: W,
) -> (impl Subscriber + Send + Sync + use<W>, LogLevel)
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let (directives, handle) = reload::Layer::new(filter.to_env_filter());
    // It fails only where nothing is logged any more.
    let reload = Arc::new(move |filter: &LogFilter| drop(handle.reload(filter.to_env_filter())));
    let level = LogLevel { in_force: Arc::new(Mutex::new(filter.clone())), reload };
    // Directives are about lines of the log alone: that less is logged must not make traces incomplete.
    let line = line(format, colours, writer).with_filter(directives.and(filter_fn(|metadata| metadata.is_event())));
    // This one is on the registry, not on a layer: it holds for every layer there will be.
    (tracing_subscriber::registry().with(traces.layer()).with(line).with(filter_fn(cannot_show_content)), level)
}

fn line<S, W>(format: LogFormat, colours: bool, writer: W) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let layer = fmt::layer().with_writer(writer).with_span_events(FmtSpan::NONE);
    match format {
        LogFormat::Json => layer.json().flatten_event(true).map_event_format(WithTrace::json).boxed(),
        LogFormat::Text => {
            layer.with_ansi(colours).map_event_format(move |format| WithTrace::text(format.with_ansi(colours))).boxed()
        }
    }
}

/// Adds the trace that a line belongs to at its end.
struct WithTrace<F> {
    format: F,
    /// What a line ends with, and what stands before and after the trace.
    around: [&'static str; 3],
}

impl<F> WithTrace<F> {
    fn json(format: F) -> Self {
        Self { format, around: ["}", ",\"trace_id\":\"", "\"}"] }
    }

    fn text(format: F) -> Self {
        Self { format, around: ["", " trace_id=", ""] }
    }
}

impl<S, N, F> FormatEvent<S, N> for WithTrace<F>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
    N: for<'writer> FormatFields<'writer> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(&self, ctx: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> text::Result {
        let Some(trace) = traces::current_trace() else { return self.format.format_event(ctx, writer, event) };
        let mut line = String::new();
        self.format.format_event(ctx, Writer::new(&mut line), event)?;
        let [end, before, after] = self.around;
        let line = line.trim_end_matches('\n');
        let line = line.strip_suffix(end).unwrap_or(line);
        writeln!(writer, "{line}{before}{trace}{after}")
    }
}

/// Whether what is logged there is known to hold no secret content, whatever level the settings ask for.
///
/// kube's client logs whole response bodies where they cannot be decoded (`kube_client::client`, at WARN and
/// DEBUG). Of everything that is not ours and has not been read for this, only what it says at INFO and above
/// is shown: transports log what they transport at lower levels.
fn cannot_show_content(metadata: &Metadata<'_>) -> bool {
    let target = metadata.target();
    let within =
        |module: &str| target.strip_prefix(module).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"));
    if within(env!("CARGO_CRATE_NAME")) {
        return true;
    }
    if within("kube_runtime") || within("kube_client::client::builder") {
        return *metadata.level() <= Level::DEBUG;
    }
    if within("kube_client::client") && !within("kube_client::client::tls") {
        return false;
    }
    *metadata.level() <= Level::INFO
}

/// The message of a panic may hold what was being worked on, so only its place is told.
fn report_panic(panic: &std::panic::PanicHookInfo<'_>) {
    let location = panic.location().map(ToString::to_string).unwrap_or_default();
    tracing::error!(location, "panicked; the message is withheld, because it may hold secret content");
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[derive(Clone, Default)]
    struct Captured(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Captured {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Captured {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    fn logged(format: LogFormat, directives: &str, events: impl FnOnce()) -> String {
        let captured = Captured::default();
        let writer = captured.clone();
        let filter = LogFilter::parse(directives).unwrap();
        let (subscriber, _) = subscriber(format, &filter, false, &Traces::off(), move || writer.clone());
        tracing::subscriber::with_default(subscriber, events);
        captured.text()
    }

    /// A call whose answer is cut short, as a broken proxy would: kube's client cannot decode it.
    fn call_with_an_answer_cut_short() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let url = format!("http://{}", server.local_addr().unwrap()).parse().unwrap();
            tokio::spawn(async move {
                let (mut connection, _) = server.accept().await.unwrap();
                assert!(connection.read(&mut [0; 4096]).await.unwrap() > 0);
                let body = r#"{"kind": "Secret", "data": {"password": "hunter2"}"#;
                let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
                connection.write_all(answer.as_bytes()).await.unwrap();
            });
            let client = kube::Client::try_from(kube::Config::new(url)).unwrap();
            let secrets = kube::Api::<k8s_openapi::api::core::v1::ConfigMap>::namespaced(client, "default");
            assert!(secrets.get("any").await.is_err());
        });
    }

    #[test]
    fn an_answer_that_cannot_be_decoded_is_not_logged() {
        let text = logged(LogFormat::Json, "trace,kube_client::client=trace", call_with_an_answer_cut_short);
        assert!(text.contains("kube_client::client::builder") && !text.contains("hunter2"), "{text}");

        // Without our filter it is: otherwise nothing would be shown by the above.
        let captured = Captured::default();
        let writer = captured.clone();
        let unfiltered = tracing_subscriber::registry().with(line(LogFormat::Json, false, move || writer.clone()));
        tracing::subscriber::with_default(unfiltered, call_with_an_answer_cut_short);
        assert!(captured.text().contains("hunter2"), "{}", captured.text());
    }

    #[test]
    fn no_directive_shows_the_body_of_a_response() {
        for directives in [
            "trace",
            "kube_client=trace",
            "kube_client::client=trace",
            "info,kube_client::client=warn",
            "trace,kube_client::client=trace,hyper=trace",
        ] {
            let text = logged(LogFormat::Text, directives, || {
                tracing::warn!(target: "kube_client::client", "hunter2");
                tracing::debug!(target: "kube_client::client", "hunter2");
                tracing::error!(target: "kube_client::client::client_ext", "hunter2");
                tracing::trace!(target: "kube_client::client::builder", "hunter2");
                tracing::trace!(target: "kube_runtime::watcher", "hunter2");
                tracing::debug!(target: "hyper::proto::h1", "hunter2");
                tracing::debug!(target: "rustls::conn", "hunter2");
            });
            assert_eq!(text, "", "with {directives}");
        }
    }

    #[test]
    fn what_is_known_to_be_harmless_can_be_switched_on() {
        let text = logged(LogFormat::Text, "trace", || {
            tracing::trace!("ours");
            tracing::debug!(target: "kube_client::client::builder", "requesting");
            tracing::debug!(target: "kube_runtime::controller", "applier");
            tracing::warn!(target: "kube_client::client::tls", "CA bundle");
            tracing::info!(target: "hyper", "info");
        });
        for expected in ["ours", "requesting", "applier", "CA bundle", "info"] {
            assert!(text.contains(expected), "{expected} is missing in {text}");
        }
    }

    #[test]
    fn the_setting_chooses_the_level() {
        let events = || {
            tracing::debug!("quiet");
            tracing::info!("loud");
        };
        let text = logged(LogFormat::Text, "info", events);
        assert!(text.contains("loud") && !text.contains("quiet"), "{text}");
        assert!(logged(LogFormat::Text, "debug", events).contains("quiet"));
        assert!(LogFilter::parse("info,=nonsense=x").is_err());
        assert!(LogFilter::parse(" ").is_err());
    }

    #[test]
    fn a_json_line_holds_message_and_fields_side_by_side() {
        let text = logged(LogFormat::Json, "info", || tracing::info!(address = "127.0.0.1:1", "listening\n\u{1b}[31m"));
        assert_eq!(text.lines().count(), 1, "{text}");
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&line["message"], &line["address"]), (&"listening\n\u{1b}[31m".into(), &"127.0.0.1:1".into()));
        assert_eq!(line["level"], "INFO");
    }

    #[test]
    fn a_panic_tells_its_place_and_not_its_message() {
        let text = logged(LogFormat::Text, "info", || {
            let previous = std::panic::take_hook();
            std::panic::set_hook(Box::new(report_panic));
            let result = std::panic::catch_unwind(|| panic!("hunter2"));
            std::panic::set_hook(previous);
            assert!(result.is_err());
        });
        assert!(text.contains("telemetry/logs.rs:") && !text.contains("hunter2"), "{text}");
    }

    #[test]
    fn the_level_changes_while_it_runs_and_hides_what_it_hid() {
        let captured = Captured::default();
        let writer = captured.clone();
        let filter = LogFilter::parse("info").unwrap();
        let (subscriber, level) = subscriber(LogFormat::Text, &filter, false, &Traces::off(), move || writer.clone());
        tracing::subscriber::with_default(subscriber, || {
            tracing::debug!("before");
            level.set(LogFilter::parse("trace").unwrap());
            tracing::debug!("after");
            tracing::warn!(target: "kube_client::client", "hunter2");
        });
        assert_eq!(level.get(), "trace");
        let text = captured.text();
        assert!(text.contains("after") && !text.contains("before") && !text.contains("hunter2"), "{text}");
    }

    #[test]
    fn a_line_within_a_trace_ends_with_it_whatever_level_is_logged() {
        for (format, before, after) in [(LogFormat::Json, "\"trace_id\":\"", "\"}"), (LogFormat::Text, "trace_id=", "")]
        {
            let captured = Captured::default();
            let writer = captured.clone();
            let filter = LogFilter::parse("error").unwrap();
            let traces = Traces::for_tests();
            let (subscriber, _) = subscriber(format, &filter, false, &traces, move || writer.clone());
            let trace = tracing::subscriber::with_default(subscriber, || {
                tracing::error!("outside");
                traces::names::DISTRIBUTE.start_root().in_scope(|| {
                    tracing::error!(field = 1, "inside");
                    traces::current_trace().unwrap()
                })
            });
            let text = captured.text();
            let lines: Vec<_> = text.lines().collect();
            assert!(lines.len() == 2 && !lines[0].contains("trace_id"), "{text}");
            assert!(lines[1].ends_with(&format!("{before}{trace}{after}")), "{text}");
            if format == LogFormat::Json {
                let line: serde_json::Value = serde_json::from_str(lines[1]).unwrap();
                assert_eq!((&line["message"], &line["trace_id"]), (&"inside".into(), &trace.to_string().into()));
            }
        }
    }
}
