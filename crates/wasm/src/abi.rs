//! Passes arguments between the module and JavaScript. Numbers, 64-bit integers and flags are
//! passed as they are. A text or bytes go in as the address of a block, which the script got from
//! [`block`], and go out as the address of a [`Span`].

/// Size of the length at the start of a block, in bytes.
const HEAD: usize = size_of::<u32>();

/// The address and length of texts, bytes or numbers. JavaScript copies them before the call
/// returns.
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

/// Returns a block for `len` bytes. The script writes the bytes behind the block's [`HEAD`].
#[unsafe(export_name = "block")]
extern "C" fn block(len: u32) -> *mut u8 {
    let mut block = vec![0; HEAD + len as usize].into_boxed_slice();
    block[..HEAD].copy_from_slice(&len.to_ne_bytes());
    Box::into_raw(block).cast()
}

/// A block that the script passed back.
pub(crate) struct Block(Box<[u8]>);

impl Block {
    /// # Safety
    /// The address must be one that [`block`] returned, and its block must not have been passed
    /// back before.
    unsafe fn at(address: *mut u8) -> Self {
        // SAFETY: each block begins with its length.
        let len = unsafe { address.cast::<u32>().read_unaligned() } as usize;
        let slice = std::ptr::slice_from_raw_parts_mut(address, HEAD + len);
        // SAFETY: `block` made it from a box of this length.
        Self(unsafe { Box::from_raw(slice) })
    }

    fn bytes(&self) -> &[u8] {
        self.0.get(HEAD..).unwrap_or_default()
    }
}

/// The type of an argument that JavaScript passes to the module.
pub(crate) trait Enter {
    /// The type that crosses the boundary.
    type Raw;
    /// The type that owns the argument during the call.
    type Held;

    /// # Safety
    /// A block must be passed back only once. The block of a text must contain UTF-8.
    unsafe fn enter(raw: Self::Raw) -> Self::Held;
}

/// Lends an argument that its `Held` owns.
pub(crate) trait Show<'a, T> {
    fn show(&'a self) -> T;
}

/// The type of an argument that the module passes to JavaScript.
pub(crate) trait Leave {
    /// The type that crosses the boundary.
    type Raw;
    /// The type that owns what `Raw` refers to, during the call.
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
        // SAFETY: the caller guarantees it.
        unsafe { Block::at(raw) }
    }
}

impl<'a> Show<'a, &'a [u8]> for Block {
    fn show(&'a self) -> &'a [u8] {
        self.bytes()
    }
}

/// A block that contains a text.
pub(crate) struct Text(Block);

impl Enter for &str {
    type Raw = *mut u8;
    type Held = Text;

    unsafe fn enter(raw: *mut u8) -> Text {
        // SAFETY: the caller guarantees it.
        Text(unsafe { Block::at(raw) })
    }
}

impl<'a> Show<'a, &'a str> for Text {
    fn show(&'a self) -> &'a str {
        // SAFETY: the caller of `enter` guarantees UTF-8, since a `TextEncoder` wrote the text.
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
