//! What is wrong with policies and requests, or can hardly be meant: for people who write them.
//!
//! It reads files as they are written. That an object is refused is found by the parsers that the operator has, and by
//! the bounds of the schema that the API server has.

mod bounds;
mod policies;
mod requests;

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use kube::ResourceExt;

use super::{
    invalid::InvalidField,
    locate::Lines,
    manifest::{self, Document, Object},
    policy::Policy,
    request::Request,
};
use crate::api::{
    DistributionPolicy, SecretsDistribution,
    findings::{FindingCode, Severity},
};

/// A file that is checked.
#[derive(Clone, Debug)]
pub struct File<'a> {
    /// Its name.
    pub name: &'a str,
    /// What is in it.
    pub text: &'a str,
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// Name of the file.
    pub file: String,
    /// Its line, counted from 1.
    pub line: usize,
    /// What it is.
    pub code: FindingCode,
    /// Kind and name of the object; empty if it has none.
    pub object: String,
    /// Path of the field; empty if it is about the object.
    pub field: String,
    /// What is wrong, and what to do.
    pub message: String,
}

impl Finding {
    /// How much it matters.
    pub fn severity(&self) -> Severity {
        self.code.severity()
    }
}

/// What was found in some files, in the order of files and lines; and how many objects there were.
pub fn check(files: &[File<'_>], now: Timestamp) -> (Vec<Finding>, usize) {
    let mut lint = Lint { now, ..Lint::default() };
    files.iter().for_each(|file| lint.read(file));
    lint.check_policies();
    lint.findings.sort();
    (lint.findings, lint.objects)
}

/// Where an object stands.
#[derive(Clone, Debug)]
struct Place {
    file: String,
    lines: Arc<Lines>,
    document: usize,
    /// Path of the object in its document: it may be an item of a list.
    within: String,
    /// Kind and name.
    object: String,
}

/// A policy as it is written, compiled, and its place.
struct Known {
    place: Place,
    object: DistributionPolicy,
    policy: Policy,
}

/// What was read and found so far.
#[derive(Default)]
struct Lint {
    now: Timestamp,
    findings: Vec<Finding>,
    objects: usize,
    policies: Vec<Known>,
    seen: BTreeMap<String, Place>,
}

impl Lint {
    fn read(&mut self, file: &File<'_>) {
        let lines = Arc::new(Lines::of(file.text));
        let place = |document, within: &str| Place {
            file: file.name.into(),
            lines: lines.clone(),
            document,
            within: within.into(),
            object: String::new(),
        };
        match manifest::objects(file.text) {
            Err(problem) => self.refuse(&place(0, ""), &problem),
            Ok(documents) => {
                for Document { index, within, value } in documents {
                    self.objects += 1;
                    let name = value.pointer("/metadata/name").and_then(|name| name.as_str()).unwrap_or_default();
                    let kind = value.get("kind").and_then(|kind| kind.as_str()).unwrap_or("object");
                    let object = format!("{kind} {name}").trim_end().to_string();
                    let place = Place { object, ..place(index, &within) };
                    match manifest::object_of(value) {
                        Err(problem) => self.refuse(&place, &problem),
                        Ok(Object::Policy(object)) => self.read_policy(place, *object),
                        Ok(Object::Request(object)) => self.read_request(place, &object),
                    }
                }
            }
        }
    }

    fn read_policy(&mut self, place: Place, object: DistributionPolicy) {
        self.note_name(&place, &object.name_any());
        for problem in bounds::of_policy(&object) {
            self.refuse(&place, &problem);
        }
        match Policy::parse(&object) {
            Err(problem) => self.refuse(&place, &problem),
            Ok(policy) => self.policies.push(Known { place, object, policy }),
        }
    }

    fn read_request(&mut self, place: Place, object: &SecretsDistribution) {
        let key = format!("{}/{}", object.namespace().unwrap_or_default(), object.name_any());
        let place = Place { object: format!("SecretsDistribution {key}"), ..place };
        self.note_name(&place, &key);
        for problem in bounds::of_request(object) {
            self.refuse(&place, &problem);
        }
        match Request::parse(object) {
            Err(problem) => self.refuse(&place, &problem),
            Ok(request) => requests::check(&request, |code, field, message| self.find(&place, code, field, message)),
        }
    }

    fn note_name(&mut self, place: &Place, name: &str) {
        match self.seen.insert(place.object.clone(), place.clone()) {
            None => {}
            Some(first) => {
                let message =
                    format!("{name} is in {} at line {}, too: give it another name", first.file, first.line(""));
                self.find(place, FindingCode::DuplicateName, "metadata.name", message);
            }
        }
    }

    fn refuse(&mut self, place: &Place, problem: &InvalidField) {
        self.find(place, FindingCode::InvalidObject, &problem.field, problem.problem.clone());
    }

    fn find(&mut self, place: &Place, code: FindingCode, field: &str, message: String) {
        let (file, line) = (place.file.clone(), place.line(field));
        let (object, field) = (place.object.clone(), field.to_string());
        self.findings.push(Finding { file, line, code, object, field, message });
    }
}

impl Place {
    /// The line of a field, or of the object.
    fn line(&self, field: &str) -> usize {
        self.lines.line(self.document, &format!("{}.{field}", self.within)).unwrap_or(1)
    }
}
