//! How arguments cross between the module and JavaScript: numbers, 64-bit integers and flags as
//! they are. A text or bytes go in as the address of a block that the script got of [`block`], and
//! go out as the address of a [`Span`].

/// Bytes before those of a block: their number.
const HEAD: usize = size_of::<u32>();

/// Texts, bytes or numbers that JavaScript is to copy, before the call returns.
#[repr(C)]
pub(crate) struct Span {
    at: usize,
    len: usize,
}

impl Span {
    fn of<T>(items: &[T]) -> Self {
        Self { at: items.as_ptr().addr(), len: items.len() }
    }
}

/// Returns a block for so many bytes, which the script writes behind its [`HEAD`].
#[unsafe(export_name = "block")]
extern "C" fn block(len: u32) -> *mut u8 {
    let mut block = vec![0; HEAD + len as usize].into_boxed_slice();
    block[..HEAD].copy_from_slice(&len.to_ne_bytes());
    Box::into_raw(block).cast()
}

/// A block that came back.
pub(crate) struct Block(Box<[u8]>);

impl Block {
    /// # Safety
    /// The address is that of [`block`], whose block comes back for the first time.
    unsafe fn at(address: *mut u8) -> Self {
        // SAFETY: each block begins with the number of its bytes.
        let len = unsafe { address.cast::<u32>().read_unaligned() } as usize;
        let slice = std::ptr::slice_from_raw_parts_mut(address, HEAD + len);
        // SAFETY: `block` made it of a box of this length.
        Self(unsafe { Box::from_raw(slice) })
    }

    fn bytes(&self) -> &[u8] {
        self.0.get(HEAD..).unwrap_or_default()
    }
}

/// What comes in.
pub(crate) trait Enter {
    /// As which it comes.
    type Raw;
    /// What owns it during the call.
    type Held;

    /// # Safety
    /// A block comes back once, and that of a text holds UTF-8.
    unsafe fn enter(raw: Self::Raw) -> Self::Held;
}

/// What owns something that came in, and shows it.
pub(crate) trait Show<'a, T> {
    fn show(&'a self) -> T;
}

/// What goes out.
pub(crate) trait Leave {
    /// As which it goes.
    type Raw;
    /// What that refers to.
    type Held;

    fn leave(self) -> Self::Held;

    fn raw(held: &Self::Held) -> Self::Raw;
}

macro_rules! plain {
    ($($ty:ty: $raw:ty, |$it:ident| $narrow:expr;)*) => {
        $(
            impl Enter for $ty {
                type Raw = $raw;
                type Held = Self;

                unsafe fn enter($it: $raw) -> Self {
                    $narrow
                }
            }

            impl Show<'_, Self> for $ty {
                fn show(&self) -> Self {
                    *self
                }
            }

            impl Leave for $ty {
                type Raw = $raw;
                type Held = Self;

                fn leave(self) -> Self {
                    self
                }

                fn raw(held: &Self) -> $raw {
                    (*held).into()
                }
            }
        )*
    };
}

#[expect(clippy::cast_possible_truncation, reason = "the worker checks what pages say")]
mod plain {
    use super::{Enter, Leave, Show};

    plain! {
        f64: f64, |it| it;
        u64: u64, |it| it;
        u32: u32, |it| it;
        u16: u32, |it| it as Self;
        u8: u32, |it| it as Self;
        bool: u32, |it| it != 0;
    }
}

impl Enter for &[u8] {
    type Raw = *mut u8;
    type Held = Block;

    unsafe fn enter(raw: *mut u8) -> Block {
        // SAFETY: as the caller says.
        unsafe { Block::at(raw) }
    }
}

impl<'a> Show<'a, &'a [u8]> for Block {
    fn show(&'a self) -> &'a [u8] {
        self.bytes()
    }
}

/// A block of a text.
pub(crate) struct Text(Block);

impl Enter for &str {
    type Raw = *mut u8;
    type Held = Text;

    unsafe fn enter(raw: *mut u8) -> Text {
        // SAFETY: as the caller says.
        Text(unsafe { Block::at(raw) })
    }
}

impl<'a> Show<'a, &'a str> for Text {
    fn show(&'a self) -> &'a str {
        // SAFETY: as who called `enter` said: it was written by a `TextEncoder`.
        unsafe { std::str::from_utf8_unchecked(self.0.bytes()) }
    }
}

impl<T> Leave for &[T] {
    type Raw = *const Span;
    type Held = Span;

    fn leave(self) -> Span {
        Span::of(self)
    }

    fn raw(held: &Span) -> *const Span {
        held
    }
}

impl Leave for &str {
    type Raw = *const Span;
    type Held = Span;

    fn leave(self) -> Span {
        Span::of(self.as_bytes())
    }

    fn raw(held: &Span) -> *const Span {
        held
    }
}
