//! Texts that are put together part by part. The formatting of the standard library would add 3 kB
//! of code to the wasm module that each browser loads.

/// Something that has its place in a text.
pub(super) trait Part {
    fn add_to(&self, text: &mut String);
}

/// Puts a text together. Takes texts and numbers, by reference or not.
macro_rules! text {
    ($($part:expr),* $(,)?) => {{
        let mut text = String::new();
        $($crate::hub::text::Part::add_to(&$part, &mut text);)*
        text
    }};
}

pub(super) use text;

impl Part for str {
    fn add_to(&self, text: &mut String) {
        text.push_str(self);
    }
}

impl Part for String {
    fn add_to(&self, text: &mut String) {
        text.push_str(self);
    }
}

impl Part for u64 {
    fn add_to(&self, text: &mut String) {
        if *self >= 10 {
            (self / 10).add_to(text);
        }
        // The remainder is below 10.
        text.push(char::from(b'0' + (self % 10) as u8));
    }
}

impl Part for u32 {
    fn add_to(&self, text: &mut String) {
        u64::from(*self).add_to(text);
    }
}

impl Part for u16 {
    fn add_to(&self, text: &mut String) {
        u64::from(*self).add_to(text);
    }
}

impl Part for usize {
    fn add_to(&self, text: &mut String) {
        (*self as u64).add_to(text);
    }
}

impl<T: Part + ?Sized> Part for &T {
    fn add_to(&self, text: &mut String) {
        (**self).add_to(text);
    }
}

/// Adds a byte as two hexadecimal digits.
pub(super) fn add_hex(text: &mut String, byte: u8) {
    for digit in [byte >> 4, byte & 15] {
        text.push(char::from(if digit < 10 { b'0' + digit } else { b'a' + digit - 10 }));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn numbers_and_bytes_are_written_as_the_standard_library_writes_them(
            number: u64, short: u16, byte: u8, name: String,
        ) {
            let written = text!("a ", number, " ", &short, name, usize::from(byte));
            prop_assert_eq!(written, format!("a {number} {short}{name}{byte}"));
            let mut hex = String::new();
            add_hex(&mut hex, byte);
            prop_assert_eq!(hex, format!("{byte:02x}"));
        }
    }
}
