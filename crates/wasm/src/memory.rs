//! The module's allocator. The usual one has 8 kB of code, an eighth of the module of mirror mode,
//! and every browser loads it.
//!
//! Each block has a size that is a power of two, from 16 bytes on. A block that is freed is kept
//! for the next request of its size. New blocks are cut from the end of the memory, which grows by
//! whole pages and never shrinks, whatever the allocator. So a request takes a few instructions, a
//! block is at most twice as large as what is asked for, and no pattern of requests takes more
//! than twice the peak of each size.

use std::{
    alloc::{GlobalAlloc, Layout},
    cell::UnsafeCell,
    ptr,
};

/// Blocks have at least so many bytes, and are aligned to it.
const SMALLEST: usize = 16;
/// Sizes from 16 bytes to 2 GiB.
const SIZES: usize = 28;
/// How much memory is asked for at once, at least.
const PAGE: usize = 64 << 10;

/// Gives memory that nobody has: `None` when there is none.
pub(crate) trait Source {
    /// Makes the memory larger by so many pages. Returns where it ended before.
    fn grow(&self, pages: usize) -> Option<usize>;
}

/// The memory of the module.
#[cfg(target_arch = "wasm32")]
pub(crate) struct Pages;

#[cfg(target_arch = "wasm32")]
impl Source for Pages {
    fn grow(&self, pages: usize) -> Option<usize> {
        let before = core::arch::wasm32::memory_grow::<0>(pages);
        (before != usize::MAX).then_some(before * PAGE)
    }
}

/// The allocator.
pub(crate) struct Blocks<S> {
    state: UnsafeCell<State>,
    source: S,
}

struct State {
    /// The first free block of each size. It holds the address of the next one.
    free: [*mut u8; SIZES],
    /// What is left of the last pages, up to `end`.
    next: usize,
    end: usize,
}

// SAFETY: the module has one thread. The target has no others without its feature `atomics`.
unsafe impl<S> Sync for Blocks<S> {}

impl<S> Blocks<S> {
    pub(crate) const fn new(source: S) -> Self {
        let state = State { free: [ptr::null_mut(); SIZES], next: 0, end: 0 };
        Self { state: UnsafeCell::new(state), source }
    }
}

/// Returns which of the sizes serves a request, and that size.
fn size_of(layout: Layout) -> (usize, usize) {
    let size = layout.size().max(layout.align()).max(SMALLEST).next_power_of_two();
    ((size / SMALLEST).trailing_zeros() as usize, size)
}

// SAFETY: a block is handed out by one call and comes back by another, and is on a list between
// the two. Blocks of one size never overlap others, since each is cut off once.
unsafe impl<S: Source> GlobalAlloc for Blocks<S> {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout.align() > SMALLEST || layout.size() > isize::MAX as usize / 2 {
            return ptr::null_mut();
        }
        let (index, size) = size_of(layout);
        // SAFETY: there is one thread, and this function calls nothing that allocates.
        let state = unsafe { &mut *self.state.get() };
        let Some(free) = state.free.get_mut(index) else { return ptr::null_mut() };
        let block = *free;
        if !block.is_null() {
            // SAFETY: a free block holds the address of the next one.
            *free = unsafe { block.cast::<*mut u8>().read() };
            return block;
        }
        state.cut(size, &self.source)
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        let (index, _) = size_of(layout);
        // SAFETY: there is one thread.
        let state = unsafe { &mut *self.state.get() };
        if let Some(free) = state.free.get_mut(index) {
            // SAFETY: nobody has the block any more, and it has 16 bytes at least.
            unsafe { block.cast::<*mut u8>().write(*free) };
            *free = block;
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller sees to it that the size is one of a layout.
        let wanted = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        if size_of(layout) == size_of(wanted) {
            return block;
        }
        // SAFETY: the block comes from `alloc`, with this layout.
        unsafe {
            let other = self.alloc(wanted);
            if !other.is_null() {
                ptr::copy_nonoverlapping(block, other, layout.size().min(size));
                self.dealloc(block, layout);
            }
            other
        }
    }
}

impl State {
    /// Cuts a block off what is left of the pages, and asks for more if that is too little.
    fn cut(&mut self, size: usize, source: &impl Source) -> *mut u8 {
        if self.end - self.next < size {
            let pages = size.div_ceil(PAGE);
            let Some(start) = source.grow(pages) else { return ptr::null_mut() };
            if start != self.end {
                self.next = start;
            }
            self.end = start + pages * PAGE;
        }
        let block = self.next;
        self.next += size;
        ptr::with_exposed_provenance_mut(block)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// So much memory, of which so many pages are given.
    struct Few {
        memory: Vec<[u64; PAGE / 8]>,
        given: Cell<usize>,
    }

    impl Source for Few {
        fn grow(&self, pages: usize) -> Option<usize> {
            let before = self.given.get();
            (before + pages <= self.memory.len()).then(|| {
                self.given.set(before + pages);
                self.memory.as_ptr().expose_provenance() + before * PAGE
            })
        }
    }

    fn blocks(pages: usize) -> Blocks<Few> {
        Blocks::new(Few { memory: vec![[0; PAGE / 8]; pages], given: Cell::new(0) })
    }

    fn layout(size: usize) -> Layout {
        Layout::from_size_align(size, 8).unwrap()
    }

    fn take(blocks: &Blocks<Few>, size: usize) -> *mut u8 {
        // SAFETY: the size is not 0.
        unsafe { blocks.alloc(layout(size)) }
    }

    fn give_back(blocks: &Blocks<Few>, block: *mut u8, size: usize) {
        // SAFETY: the block was taken with this size.
        unsafe { blocks.dealloc(block, layout(size)) }
    }

    /// Numbers that look random.
    fn numbers() -> impl FnMut(usize) -> usize {
        let mut state = 1_u64;
        move |below| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) as usize % below
        }
    }

    #[test]
    fn no_block_overlaps_another_whatever_is_taken_and_given_back() {
        let (blocks, mut number) = (blocks(64), numbers());
        let mut taken: Vec<(*mut u8, usize)> = Vec::new();
        for _ in 0..10_000 {
            if number(2) == 0 && !taken.is_empty() {
                let (block, size) = taken.swap_remove(number(taken.len()));
                give_back(&blocks, block, size);
            } else if taken.len() < 200 {
                let size = 1 + number(6000);
                let block = take(&blocks, size);
                assert!(!block.is_null());
                let (from, to) = (block.addr(), block.addr() + size);
                let overlaps = |(other, size): &(*mut u8, usize)| {
                    from < other.addr() + size && other.addr() < to
                };
                assert!(!taken.iter().any(overlaps));
                taken.push((block, size));
            }
        }
    }

    #[test]
    fn a_block_that_was_given_back_serves_the_next_request_of_its_size() {
        let blocks = blocks(4);
        for _ in 0..1000 {
            let block = take(&blocks, 100_000);
            assert!(!block.is_null());
            give_back(&blocks, block, 100_000);
        }
    }

    #[test]
    fn a_block_that_grows_or_shrinks_keeps_its_bytes() {
        let blocks = blocks(8);
        let block = take(&blocks, 5);
        let mut size = 5;
        // SAFETY: the block was taken with this size, or has this size now.
        unsafe {
            ptr::copy_nonoverlapping(b"hello".as_ptr(), block, 5);
            let mut block = block;
            for next in [16, 17, 4000, 70_000, 6, 5] {
                block = blocks.realloc(block, layout(size), next);
                size = next;
                assert_eq!(std::slice::from_raw_parts(block, 5), b"hello");
            }
        }
    }

    #[test]
    fn blocks_are_aligned() {
        let blocks = blocks(4);
        for size in [1, 3, 16, 17, 100, 5000] {
            assert_eq!(take(&blocks, size).addr() % SMALLEST, 0);
        }
    }

    #[test]
    fn there_is_no_block_where_there_is_no_memory_and_others_stay() {
        let blocks = blocks(2);
        assert!(take(&blocks, 3 * PAGE).is_null());
        assert!(!take(&blocks, PAGE).is_null());
        assert!(!take(&blocks, PAGE).is_null());
        assert!(take(&blocks, 1).is_null());
    }

    #[test]
    fn an_alignment_that_no_block_has_is_refused() {
        let blocks = blocks(1);
        // SAFETY: the size is not 0.
        assert!(unsafe { blocks.alloc(Layout::from_size_align(8, 64).unwrap()) }.is_null());
    }
}
