//! Figures as metrics, in OpenMetrics' text format, which Prometheus reads.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

/// The `Content-Type` of a page.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// A page of metrics.
pub fn page(collector: impl Collector) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(collector));
    let mut page = String::with_capacity(16 * 1024);
    text::encode(&mut page, &registry)?;
    Ok(page)
}

/// A sample's labels.
pub type Labels<'a> = Vec<(&'a str, &'a str)>;

/// Families of samples, one after the other.
pub struct Figures<'a, 'b>(&'a mut DescriptorEncoder<'b>);

impl<'a, 'b> Figures<'a, 'b> {
    /// Into a page.
    pub fn new(encoder: &'a mut DescriptorEncoder<'b>) -> Self {
        Self(encoder)
    }

    /// A figure that goes up and down.
    pub fn gauge<'l>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (Labels<'l>, u64)>,
    ) -> fmt::Result {
        self.family(name, help, MetricType::Gauge, samples)
    }

    /// A figure that only grows. OpenMetrics adds `_total` to the name by itself.
    pub fn counter<'l>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (Labels<'l>, u64)>,
    ) -> fmt::Result {
        self.family(name, help, MetricType::Counter, samples)
    }

    fn family<'l>(
        &mut self,
        name: &str,
        help: &str,
        kind: MetricType,
        samples: impl IntoIterator<Item = (Labels<'l>, u64)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, kind)?;
        for (labels, value) in samples {
            match labels.is_empty() {
                true => sample(&mut family, kind, value)?,
                false => sample(&mut family.encode_family(&labels)?, kind, value)?,
            }
        }
        Ok(())
    }
}

fn sample(to: &mut MetricEncoder<'_>, kind: MetricType, value: u64) -> fmt::Result {
    match kind {
        MetricType::Counter => to.encode_counter::<NoLabelSet, u64, f64>(&value, None),
        _ => to.encode_gauge(&value),
    }
}
