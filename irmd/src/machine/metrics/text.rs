//! Metrics as text, in the two formats that Prometheus reads.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use super::Snapshot;
use super::catalogue::{Kind, Metric};
use super::figures::{Figure, Value, figures};

/// How metrics are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Prometheus' own text format, 0.0.4.
    Prometheus,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

impl Format {
    /// What the reader would have, by its `Accept` header.
    pub fn accepted(header: &str) -> Self {
        if header.contains("application/openmetrics-text") { Self::OpenMetrics } else { Self::Prometheus }
    }

    /// The `Content-Type` of it.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// Writes a moment down.
pub fn text(now: &Snapshot, format: Format) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Page(figures(now))));
    let mut text = String::with_capacity(32 * 1024);
    match format {
        Format::OpenMetrics => text::encode(&mut text, &registry)?,
        Format::Prometheus => {
            text::encode_registry(&mut text, &registry)?;
            text = older(&text);
        }
    }
    Ok(text)
}

#[derive(Debug)]
struct Page(Vec<Figure>);

impl Collector for Page {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for Figure { metric, samples } in &self.0 {
            let kind = match metric.kind {
                Kind::Counter => MetricType::Counter,
                Kind::Gauge => MetricType::Gauge,
                Kind::Histogram => MetricType::Histogram,
            };
            let mut family = encoder.encode_descriptor(stem(metric), metric.help, None, kind)?;
            for (values, value) in samples {
                let values = values.iter().map(String::as_str);
                let labels: Vec<(&str, &str)> = metric.labels.iter().copied().zip(values).collect();
                if labels.is_empty() {
                    sample(&mut family, metric.kind, value)?;
                } else {
                    sample(&mut family.encode_family(&labels)?, metric.kind, value)?;
                }
            }
        }
        Ok(())
    }
}

fn sample(to: &mut MetricEncoder<'_>, kind: Kind, value: &Value) -> fmt::Result {
    match (kind, value) {
        (Kind::Counter, Value::Whole(n)) => to.encode_counter::<NoLabelSet, u64, f64>(n, None),
        (Kind::Counter, Value::Real(n)) => to.encode_counter::<NoLabelSet, f64, f64>(n, None),
        (_, Value::Whole(n)) => to.encode_gauge(n),
        (_, Value::Real(n)) => to.encode_gauge(n),
        (_, Value::Spread(spread)) => {
            to.encode_histogram::<NoLabelSet>(spread.sum(), spread.count(), &spread.buckets(), None)
        }
    }
}

/// OpenMetrics adds the `_total` of counters by itself.
fn stem(metric: &Metric) -> &'static str {
    metric.name.strip_suffix("_total").unwrap_or(metric.name)
}

/// OpenMetrics as the older format, which calls a counter by the name of its samples.
fn older(text: &str) -> String {
    let counters: Vec<&str> =
        super::CATALOGUE.iter().filter(|metric| metric.kind == Kind::Counter).map(|metric| stem(metric)).collect();
    let mut older = String::with_capacity(text.len() + 512);
    for line in text.lines() {
        let mut words = line.splitn(4, ' ');
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some("#"), Some(what @ ("HELP" | "TYPE")), Some(name), Some(rest)) if counters.contains(&name) => {
                older.extend(["# ", what, " ", name, "_total ", rest]);
            }
            _ => older.push_str(line),
        }
        older.push('\n');
    }
    older
}
