//! The module's allocator. The default allocator has 8 kB of code, an eighth of the module of
//! mirror mode, and every browser loads it.
//!
//! The size of each block is a power of two, from 16 bytes on. A freed block is kept for the next
//! request of its size. New blocks are cut from the end of the memory, which grows by whole pages.
//! WebAssembly memory never shrinks, whatever the allocator. A request takes a few instructions. A
//! block is at most twice as large as the request, and the memory is at most twice the sum of each
//! size's peak.

use std::{
    alloc::{GlobalAlloc, Layout},
    cell::UnsafeCell,
    ptr,
};

/// Smallest size of a block, and the alignment of all blocks, in bytes.
const SMALLEST: usize = 16;
/// Number of block sizes, from 16 bytes to 2 GiB.
const SIZES: usize = 28;
/// Size of a page, in bytes. The memory grows by whole pages.
const PAGE: usize = 64 << 10;

/// A source of memory that nothing uses yet.
pub(crate) trait Source {
    /// Makes the memory larger by this many pages. Returns the address where it ended before, or
    /// `None` if there is no more memory.
    fn grow(&self, pages: usize) -> Option<usize>;
}

/// The memory of the WebAssembly module.
#[cfg(target_arch = "wasm32")]
pub(crate) struct Pages;

#[cfg(target_arch = "wasm32")]
impl Source for Pages {
    fn grow(&self, pages: usize) -> Option<usize> {
        let before = core::arch::wasm32::memory_grow::<0>(pages);
        (before != usize::MAX).then_some(before * PAGE)
    }
}

/// The allocator of the module.
pub(crate) struct Blocks<S> {
    state: UnsafeCell<State>,
    source: S,
}

struct State {
    /// The first free block of each size. A free block holds the address of the next one.
    free: [*mut u8; SIZES],
    /// The start of the unused rest of the last pages. The rest reaches to `end`.
    next: usize,
    end: usize,
}

// SAFETY: the module has one thread. The target has more only with its feature `atomics`.
unsafe impl<S> Sync for Blocks<S> {}

impl<S> Blocks<S> {
    pub(crate) const fn new(source: S) -> Self {
        let state = State { free: [ptr::null_mut(); SIZES], next: 0, end: 0 };
        Self { state: UnsafeCell::new(state), source }
    }
}

/// Returns the index and the size in bytes of the blocks that serve a request.
fn size_of(layout: Layout) -> (usize, usize) {
    let size = layout.size().max(layout.align()).max(SMALLEST).next_power_of_two();
    ((size / SMALLEST).trailing_zeros() as usize, size)
}

// SAFETY: `alloc` hands a block out, `dealloc` takes it back, and it is on a free list only between
// the two. Blocks never overlap, since each is cut off once.
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
            // SAFETY: the caller has given the block up, and a block has at least 16 bytes.
            unsafe { block.cast::<*mut u8>().write(*free) };
            *free = block;
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller guarantees that the size is valid for a layout.
        let wanted = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        if size_of(layout) == size_of(wanted) {
            return block;
        }
        // SAFETY: the block comes from `alloc` with this layout.
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
    /// Cuts a block from the unused rest. Grows the memory if the rest is too small.
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

    /// A memory of a fixed number of pages, of which some are handed out.
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

    /// Returns a generator of numbers that look random.
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
    fn a_request_fails_when_no_memory_is_left_and_earlier_blocks_stay() {
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
