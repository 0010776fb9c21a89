//! What the API server itself refuses, and with which words; no operator runs here.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod documentation;
mod policies;
mod requests;

use anyhow::Result;
use e2e::ControlPlane;
use kube::Client;
use serde_json::Value;

/// An object, and what the API server shall say about it.
struct Case {
    what: String,
    object: Value,
    /// Nothing: it is accepted. Otherwise the message has both: where it is wrong, and what is expected.
    refusal: Option<(&'static str, &'static str)>,
}

/// Creates each, without storing it, and tells all that came out otherwise.
async fn check(path: &str, cases: Vec<Case>) -> Result<()> {
    let client = ControlPlane::shared().await?.client().await?;
    let mut wrong = Vec::new();
    for case in &cases {
        let answer = create(&client, path, &case.object).await?;
        let right = match (&case.refusal, &answer) {
            (None, Answer::Accepted) => true,
            (Some((field, expected)), Answer::Refused(message)) => {
                message.contains(field) && message.contains(expected)
            }
            _ => false,
        };
        if !right {
            wrong.push(format!("{}: expected {:?}, got {answer:?}", case.what, case.refusal));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    Ok(())
}

#[derive(Debug)]
enum Answer {
    Accepted,
    Refused(String),
}

/// As kubectl does: strictly, so that a field that does not exist is told instead of dropped.
async fn create(client: &Client, path: &str, object: &Value) -> Result<Answer> {
    let request = http::Request::post(format!("{path}?dryRun=All&fieldValidation=Strict"))
        .header(http::header::CONTENT_TYPE, "application/json")
        .body(serde_json::to_vec(object)?)?;
    match client.request::<Value>(request).await {
        Ok(_) => Ok(Answer::Accepted),
        Err(kube::Error::Api(status)) if [400, 422].contains(&status.code) => {
            Ok(Answer::Refused(status.message.clone()))
        }
        Err(other) => Err(other.into()),
    }
}
