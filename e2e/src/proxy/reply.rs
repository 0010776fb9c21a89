//! Replies: the API server's, whole or damaged, and the proxy's own.

use std::io;
use std::time::Duration;

use futures::{StreamExt, stream};
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::{Body, Bytes, Frame};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::rule::{Action, Rule};

const FLUSHED_WITHIN: Duration = Duration::from_millis(20);

/// The body of a reply. An error in it closes the connection.
pub(super) type ReplyBody = UnsyncBoxBody<Bytes, io::Error>;

/// A refusal by the proxy itself, as the API server words it.
pub(super) fn refusal(status: u16, retry_after: Option<u32>) -> Response<ReplyBody> {
    let mut reply = json_reply(status_object(status, retry_after).to_string());
    *reply.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    if let Some(seconds) = retry_after {
        reply.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    }
    reply
}

/// A watch that begins at a version of which the API server knows no more.
pub(super) fn expired() -> Response<ReplyBody> {
    json_reply(format!("{}\n", json!({ "type": "ERROR", "object": status_object(410, None) })))
}

fn status_object(status: u16, retry_after: Option<u32>) -> Value {
    let reason = match status {
        409 => "Conflict",
        410 => "Expired",
        429 => "TooManyRequests",
        503 => "ServiceUnavailable",
        504 => "Timeout",
        _ => "InternalError",
    };
    let details = retry_after.map(|seconds| json!({ "retryAfterSeconds": seconds }));
    json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": "injected by the fault proxy", "reason": reason, "code": status, "details": details,
    })
}

fn json_reply(body: String) -> Response<ReplyBody> {
    let mut reply = Response::new(whole(body.into()));
    reply.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    reply
}

/// The headers that are about the connection and not about the message: ours has its own.
pub(super) fn strip_connection(headers: &mut HeaderMap) {
    for name in [header::CONNECTION, header::TRANSFER_ENCODING, header::HOST, header::UPGRADE] {
        headers.remove(name);
    }
}

/// A reply of the API server on its way to the client, as the rule wants it to arrive.
pub(super) async fn relay<B>(
    reply: Response<B>,
    rule: Option<Rule>,
    cut: watch::Receiver<bool>,
) -> io::Result<Response<ReplyBody>>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: std::error::Error + Send + Sync + 'static,
{
    let (mut head, body) = reply.into_parts();
    strip_connection(&mut head.headers);
    let body = match rule.as_ref().map(Rule::action) {
        Some(Action::Truncate(length)) => {
            let bytes = body.collect().await.map_err(io::Error::other)?.to_bytes();
            head.headers.remove(header::CONTENT_LENGTH);
            whole(bytes.slice(..length.min(bytes.len())))
        }
        Some(Action::Garble) => {
            let bytes = body.collect().await.map_err(io::Error::other)?.to_bytes();
            head.headers.remove(header::CONTENT_LENGTH);
            whole([b"{\"garbled\":", &*bytes].concat().into())
        }
        Some(Action::Cut(length)) => streamed(body, None, cut, Some(length)),
        Some(Action::HoldEvents) => streamed(body, rule, cut, None),
        _ => streamed(body, None, cut, None),
    };
    Ok(Response::from_parts(head, body))
}

fn whole(bytes: Bytes) -> ReplyBody {
    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}

/// Frame by frame, as they come: a watch shows each event at once. It ends with an error when it is cut, or
/// after `most` bytes.
fn streamed<B>(body: B, gate: Option<Rule>, cut: watch::Receiver<bool>, most: Option<usize>) -> ReplyBody
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: std::error::Error + Send + Sync + 'static,
{
    let frames = stream::unfold(Some((body, gate, cut, most)), |state| async move {
        let (mut body, gate, mut cut, most) = state?;
        if most == Some(0) {
            // What was sent so far is flushed only while nothing more is ready.
            tokio::time::sleep(FLUSHED_WITHIN).await;
            return Some((Err(io::ErrorKind::ConnectionAborted.into()), None));
        }
        let next = async {
            let frame = body.frame().await;
            if let (Some(gate), Some(_)) = (&gate, &frame) {
                gate.until_lifted().await;
            }
            frame
        };
        let frame = tokio::select! {
            frame = next => frame?.map_err(io::Error::other),
            _ = cut.wait_for(|cut| *cut) => Err(io::ErrorKind::ConnectionAborted.into()),
        };
        Some(match frame {
            Err(error) => (Err(error), None),
            Ok(frame) => {
                let (frame, left) = shorten(frame, most);
                (Ok(frame), Some((body, gate, cut, left)))
            }
        })
    });
    StreamBody::new(frames.boxed()).boxed_unsync()
}

/// At most so many bytes of a frame, and how many may follow.
fn shorten(frame: Frame<Bytes>, most: Option<usize>) -> (Frame<Bytes>, Option<usize>) {
    let (Some(most), Some(data)) = (most, frame.data_ref()) else { return (frame, most) };
    let length = data.len().min(most);
    (Frame::data(data.slice(..length)), Some(most - length))
}
