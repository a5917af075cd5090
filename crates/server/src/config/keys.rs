//! The form of the tables from which the configuration comes.

/// What the documents must say of a key.
#[cfg(test)]
pub(super) struct Key {
    pub(super) name: &'static str,
    pub(super) doc: &'static str,
    /// Whether the registries enforce it.
    pub(super) is_of_core: bool,
    /// The metrics to look at when the limit is reached.
    pub(super) metrics: &'static [&'static str],
}

/// Defines a part of the configuration: the struct, its default, and what of it registries get. A
/// row is `key: type = source(value), metrics…;`. The source of the default is one of:
/// - `own`: the value is the default, and the server enforces the limit;
/// - `core`: the value is a field of `SessionConfig`, which has the default and gets the limit;
/// - `millis`: as `core`, but the key is in milliseconds.
macro_rules! keys {
    (
        $(#[doc = $about:literal])+
        $Name:ident {$(
            $(#[doc = $doc:literal])+
            $(#[serde($($serde:tt)+)])?
            $key:ident: $type:ty = $source:ident($($value:tt)+) $(, $metric:literal)*;
        )+}
    ) => {
        $(#[doc = $about])+
        #[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        #[non_exhaustive]
        pub struct $Name {$(
            $(#[doc = $doc])+
            #[doc = ""]
            $(#[doc = concat!("Metric: `", $metric, "`.")])*
            $(#[serde($($serde)+)])?
            pub $key: $type,
        )+}

        impl Default for $Name {
            fn default() -> Self {
                let core = SessionConfig::default();
                Self { $($key: keys::default!($source core $($value)+),)+ }
            }
        }

        /// Each key can be set in a chain.
        impl $Name {$(
            #[doc = concat!("Sets [`", stringify!($key), "`](field@Self::", stringify!($key), ").")]
            #[must_use]
            pub fn $key(mut self, $key: $type) -> Self {
                self.$key = $key;
                self
            }
        )+}

        impl $Name {
            /// Sets what registries enforce.
            fn apply(&self, core: &mut SessionConfig) {
                $(keys::apply!($source self.$key, core $($value)+);)+
            }

            /// Returns the names of the keys that another configuration has other values for.
            pub(crate) fn differences(&self, other: &Self) -> Vec<&'static str> {
                let mut names = Vec::new();
                $(if self.$key != other.$key {
                    names.push(stringify!($key));
                })+
                names
            }

            #[cfg(test)]
            const KEYS: &[keys::Key] = &[$(keys::Key {
                name: stringify!($key),
                doc: concat!($($doc),+),
                is_of_core: keys::is_of_core!($source),
                metrics: &[$($metric),*],
            },)+];
        }
    };
}

macro_rules! default {
    (own $core:ident $($value:tt)+) => { $($value)+ };
    (core $core:ident $($field:tt)+) => { $core.$($field)+ };
    (millis $core:ident $($field:tt)+) => { millis($core.$($field)+) };
}

macro_rules! apply {
    (own $value:expr, $core:ident $($rest:tt)+) => {};
    (core $value:expr, $core:ident $($field:tt)+) => { $core.$($field)+ = $value };
    (millis $value:expr, $core:ident $($field:tt)+) => {
        $core.$($field)+ = Duration::from_millis($value)
    };
}

#[cfg(test)]
macro_rules! is_of_core {
    (own) => {
        false
    };
    (core) => {
        true
    };
    (shared) => {
        true
    };
    (millis) => {
        true
    };
}

#[cfg(test)]
pub(super) use is_of_core;
pub(super) use {apply, default, keys};
