//! What a line says, in fields: those of the event and of the spans around it, by name.

use std::collections::BTreeMap;
use std::fmt::Debug;

use serde_json::Value;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

/// The fields of an event or of a span.
#[derive(Debug, Clone, Default)]
pub(super) struct Fields {
    pub(super) message: String,
    pub(super) message_id: Option<String>,
    /// `error`, `warning` or `notice`, for a line that is more than its level says.
    pub(super) priority: Option<String>,
    pub(super) others: BTreeMap<&'static str, Value>,
}

impl Fields {
    fn put(&mut self, field: &Field, value: Value) {
        let text = |value: Value| match value {
            Value::String(text) => text,
            other => other.to_string(),
        };
        match field.name() {
            "message" => self.message = text(value),
            "message_id" => self.message_id = Some(text(value)),
            "priority" => self.priority = Some(text(value)),
            // Where a line came by the `log` crate, these repeat its target and file.
            name if name.starts_with("log.") => {}
            name => {
                self.others.insert(name.trim_start_matches("r#"), value);
            }
        }
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value.into());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.put(field, format!("{value:?}").into());
    }
}

/// Where events go, with all their fields.
pub(super) trait Sink: 'static {
    fn take(&self, fields: &Fields, metadata: &Metadata<'_>);
}

/// Gathers the fields of each event for a sink.
pub(super) struct Collect<T>(pub(super) T);

impl<T: Sink, S: Subscriber + for<'s> LookupSpan<'s>> Layer<S> for Collect<T> {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if let Some(span) = context.span(id) {
            let mut fields = Fields::default();
            attributes.record(&mut fields);
            span.extensions_mut().insert(fields);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(fields) = span.extensions_mut().get_mut::<Fields>()
        {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        let scope = context.event_scope(event);
        for span in scope.into_iter().flat_map(tracing_subscriber::registry::Scope::from_root) {
            if let Some(of_span) = span.extensions().get::<Fields>() {
                fields.others.extend(of_span.others.clone());
            }
        }
        event.record(&mut fields);
        self.0.take(&fields, event.metadata());
    }
}
