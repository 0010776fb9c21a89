//! What the API server refuses whatever RBAC gives, tried by those who would like to: by whoever has stolen the
//! operator's token, and by the author of a request for somebody else's namespace.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

mod author;
mod operator;

use anyhow::Result;
use kube::Client;
use serde_json::Value;

/// One call of the API server.
struct Attempt {
    what: &'static str,
    /// HTTP method, or the kind of a PATCH.
    verb: &'static str,
    path: String,
    body: Value,
    refused_by: RefusedBy,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RefusedBy {
    /// The operator has no such right.
    Rbac,
    /// The right is there, and the admission policy of that name is in the way.
    Policy(&'static str),
    /// Nobody: that is the operator's work.
    Nobody,
}

impl RefusedBy {
    fn of(answer: &Result<Value, String>) -> Result<Self, &str> {
        let Err(message) = answer else { return Ok(Self::Nobody) };
        let policies =
            ["secrets-distributor-operator", "secrets-distributor-author", "secrets-distributor-secret-author"];
        let speaks = |policy: &&str| message.contains(&format!("ValidatingAdmissionPolicy '{policy}'"));
        match policies.into_iter().find(speaks) {
            Some(policy) => Ok(Self::Policy(policy)),
            None if message.contains("\" cannot ") => Ok(Self::Rbac),
            None => Err(message),
        }
    }
}

/// Tries them all, one after the other, and prints what came of each. All that came out otherwise is told together.
async fn try_all(client: &Client, attempts: Vec<Attempt>) -> Result<()> {
    let mut wrong = Vec::new();
    for attempt in &attempts {
        let answer = call(client, attempt.verb, &attempt.path, &attempt.body).await?;
        let outcome = match &answer {
            Ok(_) => "done".to_owned(),
            Err(message) => format!("refused: {}", in_short(message)),
        };
        println!("{:70} {outcome}", attempt.what);
        if RefusedBy::of(&answer) != Ok(attempt.refused_by) {
            wrong.push(format!("{}: expected {:?}: {outcome}", attempt.what, attempt.refused_by));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), attempts.len(), wrong.join("\n"));
    Ok(())
}

/// What a policy itself says, or all of another message.
fn in_short(message: &str) -> &str {
    message.split_once("denied request: ").map_or(message, |(_, told)| told)
}

/// Calls; a refusal is an answer, too.
async fn call(client: &Client, verb: &str, path: &str, body: &Value) -> Result<Result<Value, String>> {
    let (method, mime) = match verb {
        "MERGE" => ("PATCH", "application/merge-patch+json"),
        "APPLY" => ("PATCH", "application/apply-patch+yaml"),
        "JSON" => ("PATCH", "application/json-patch+json"),
        method => (method, "application/json"),
    };
    let content = if body.is_null() { Vec::new() } else { serde_json::to_vec(body)? };
    let request = http::Request::builder().method(method).uri(path).header(http::header::CONTENT_TYPE, mime);
    match client.request::<Value>(request.body(content)?).await {
        Ok(answer) => Ok(Ok(answer)),
        Err(kube::Error::Api(status)) => Ok(Err(status.message.clone())),
        Err(error) => Err(error.into()),
    }
}
