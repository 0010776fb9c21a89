//! Series that are told apart by namespace: they go with the namespace, or are added up if nobody wants them apart.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
};

use prometheus_client::{
    encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder, NoLabelSet},
    metrics::MetricType,
};

use super::table::{Definition, Kind};
use crate::core::name::NamespaceName;

/// The namespaces that exist. Only these are ever labels: whatever a request names, the series are as many as the
/// cluster has namespaces.
#[derive(Debug)]
pub struct Namespaces {
    labelled: bool,
    existing: RwLock<HashSet<NamespaceName>>,
}

impl Namespaces {
    /// None yet. Without `labelled` no series is told apart by namespace.
    pub fn new(labelled: bool) -> Self {
        Self { labelled, existing: RwLock::default() }
    }

    /// A namespace exists.
    pub fn add(&self, namespace: &NamespaceName) {
        self.existing.write().unwrap_or_else(PoisonError::into_inner).insert(namespace.clone());
    }

    /// A namespace is gone.
    pub fn remove(&self, namespace: &NamespaceName) {
        self.existing.write().unwrap_or_else(PoisonError::into_inner).remove(namespace);
    }

    fn exists(&self, namespace: &NamespaceName) -> bool {
        self.existing.read().unwrap_or_else(PoisonError::into_inner).contains(namespace)
    }

    /// What stands in the label.
    fn label(&self, namespace: &NamespaceName) -> Option<NamespaceName> {
        (self.labelled && self.exists(namespace)).then(|| namespace.clone())
    }
}

/// A counter of events, by namespace and `N` other labels.
#[derive(Clone, Debug)]
pub struct Counts<const N: usize> {
    definition: &'static Definition,
    namespaces: Arc<Namespaces>,
    counts: Arc<Mutex<ByNamespace<N>>>,
}

type ByNamespace<const N: usize> = HashMap<Option<NamespaceName>, BTreeMap<[&'static str; N], u64>>;

impl<const N: usize> Counts<N> {
    /// Nothing is counted yet.
    pub fn new(definition: &'static Definition, namespaces: &Arc<Namespaces>) -> Self {
        Self { definition, namespaces: namespaces.clone(), counts: Arc::default() }
    }

    /// Counts one event.
    pub fn add(&self, namespace: &NamespaceName, values: [&'static str; N]) {
        let mut counts = self.counts();
        // Asked under the lock: a namespace that goes now either is not in the label or is forgotten after this.
        let label = self.namespaces.label(namespace);
        *counts.entry(label).or_default().entry(values).or_default() += 1;
    }

    /// The namespace is gone, and so are its series.
    pub fn forget(&self, namespace: &NamespaceName) {
        self.counts().remove(&Some(namespace.clone()));
    }

    fn counts(&self) -> MutexGuard<'_, ByNamespace<N>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<const N: usize> EncodeMetric for Counts<N> {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        for (namespace, counts) in self.counts().iter() {
            for (values, count) in counts {
                let labels = self.definition.labels(namespace.as_ref(), *values);
                encoder.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(count, None)?;
            }
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Counter
    }

    fn is_empty(&self) -> bool {
        self.counts().is_empty()
    }
}

/// What is read at the time of a scrape.
pub struct Readings<'a> {
    namespaces: &'a Namespaces,
    series: BTreeMap<&'static str, (&'static Definition, Values)>,
}

type Values = BTreeMap<(Option<NamespaceName>, Vec<&'static str>), f64>;

impl<'a> Readings<'a> {
    pub(super) fn new(namespaces: &'a Namespaces) -> Self {
        Self { namespaces, series: BTreeMap::new() }
    }

    /// A value of the whole process, for a metric without labels.
    pub fn set(&mut self, definition: &'static Definition, value: f64) {
        self.merge(definition, None, &[], value, |_, value| value);
    }

    /// A value for these label values; of several for the same ones the last.
    pub fn label(&mut self, definition: &'static Definition, values: &[&'static str], value: f64) {
        self.merge(definition, None, values, value, |_, value| value);
    }

    /// A value of a namespace: added to what there is with the same labels.
    pub fn add(
        &mut self,
        definition: &'static Definition,
        namespace: &NamespaceName,
        values: &[&'static str],
        value: f64,
    ) {
        if let Some(label) = self.place(definition, namespace) {
            self.merge(definition, label, values, value, |known, value| known + value);
        }
    }

    /// What was counted in namespaces that are gone: a part of the sum without the label.
    pub fn add_gone(&mut self, definition: &'static Definition, value: f64) {
        self.merge(definition, None, &[], value, |known, value| known + value);
    }

    /// A value of a namespace: the least counts of those with the same labels.
    pub fn least(&mut self, definition: &'static Definition, namespace: &NamespaceName, value: f64) {
        if let Some(label) = self.place(definition, namespace) {
            self.merge(definition, label, &[], value, f64::min);
        }
    }

    /// Where the value belongs. `None`: nowhere, since a namespace that is gone has no state. What was counted in it
    /// stays in the sum, since a counter must not shrink.
    fn place(&self, definition: &Definition, namespace: &NamespaceName) -> Option<Option<NamespaceName>> {
        let has_place = definition.kind == Kind::Counter || self.namespaces.exists(namespace);
        has_place.then(|| self.namespaces.label(namespace))
    }

    fn merge(
        &mut self,
        definition: &'static Definition,
        label: Option<NamespaceName>,
        values: &[&'static str],
        value: f64,
        merged: impl Fn(f64, f64) -> f64,
    ) {
        let (_, known) = self.series.entry(definition.name).or_insert_with(|| (definition, Values::new()));
        let known = known.entry((label, values.to_vec()));
        known.and_modify(|known| *known = merged(*known, value)).or_insert(value);
    }

    pub(super) fn encode(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        for (definition, values) in self.series.values() {
            let (unit, is_counter) = (definition.unit(), definition.kind == Kind::Counter);
            let kind = if is_counter { MetricType::Counter } else { MetricType::Gauge };
            let mut encoder = encoder.encode_descriptor(definition.name, definition.help, unit.as_ref(), kind)?;
            for ((namespace, others), value) in values {
                let labels = definition.labels(namespace.as_ref(), others.iter().copied());
                let mut series = encoder.encode_family(&labels)?;
                match is_counter {
                    true => series.encode_counter::<NoLabelSet, _, f64>(value, None)?,
                    false => series.encode_gauge(value)?,
                }
            }
        }
        Ok(())
    }
}
