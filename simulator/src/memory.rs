//! How much memory each node holds: an allocator that notes for whom it gives memory.
//!
//! [`Counting`] is what a program that wants to know makes its global allocator; `kith-sim` does. Whatever is allocated while a
//! task of a node is polled, or a commit of its store is made, is the node's until it is freed, wherever that happens. So:
//!
//! - what one node sends another one, and that keeps, counts for the sender until it is freed;
//! - the pages of a node's virtual disk count for it, too, and have to be taken off ([`crate::bounds`] does);
//! - what the simulator notes for itself, about a node, is allocated [`outside`].
//!
//! The memory itself is of mimalloc: a thousand nodes allocate much, and all on one thread, for which the C library is slow.
//! In front of each piece of memory stand 8 bytes (or as many as its alignment) with the owner. Nothing is locked: an owner's
//! number is changed by one thread, that of its simulation.
//!
//! The numbers depend on the build, and slightly on the random states of hash maps. They are compared with bounds and written
//! nowhere where one seed must give the same bytes.

use std::alloc::{GlobalAlloc, Layout};
use std::cell::Cell;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};
use std::task::{Context, Poll};

use futures::FutureExt as _;
use futures::future::BoxFuture;
use kith::platform::{InlineSpawner, Spawner};
use libmimalloc_sys::{mi_free, mi_malloc, mi_malloc_aligned, mi_realloc, mi_realloc_aligned};

/// Owners that can be told apart at a time: more than any simulation has nodes.
const SLOTS: usize = 1 << 14;
/// How strictly mimalloc aligns whatever is asked for.
const NATURAL: usize = 16;
/// The owner of what belongs to no node.
const NOBODY: u32 = u32::MAX;

thread_local! {
    static OWNER: Cell<u32> = const { Cell::new(NOBODY) };
}

static HELD: [AtomicI64; SLOTS] = [const { AtomicI64::new(0) }; SLOTS];
static MOST: [AtomicI64; SLOTS] = [const { AtomicI64::new(0) }; SLOTS];
static TASKS: [AtomicI64; SLOTS] = [const { AtomicI64::new(0) }; SLOTS];
static NEXT: AtomicU32 = AtomicU32::new(0);

fn of(slots: &[AtomicI64; SLOTS], owner: u32) -> Option<&AtomicI64> {
    slots.get(owner as usize)
}

fn add(slots: &[AtomicI64; SLOTS], owner: u32, many: i64) {
    if let Some(number) = of(slots, owner) {
        number.store(number.load(Ordering::Relaxed) + many, Ordering::Relaxed);
    }
}

/// An owner of memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner(u32);

impl Owner {
    /// So many owners who hold nothing. After very many their numbers are given anew.
    pub fn take(count: u32) -> Vec<Self> {
        let first = NEXT.fetch_add(count, Ordering::Relaxed);
        let owner = |number: u32| {
            let slot = first.wrapping_add(number) % SLOTS as u32;
            for slots in [&HELD, &MOST, &TASKS] {
                if let Some(number) = of(slots, slot) {
                    number.store(0, Ordering::Relaxed);
                }
            }
            Self(slot)
        };
        (0..count).map(owner).collect()
    }

    /// Bytes it holds now; 0 where [`Counting`] is not the allocator.
    pub fn held(self) -> u64 {
        of(&HELD, self.0).map_or(0, |held| held.load(Ordering::Relaxed).max(0) as u64)
    }

    /// The most bytes it held at the end of a poll.
    pub fn most(self) -> u64 {
        of(&MOST, self.0).map_or(0, |most| most.load(Ordering::Relaxed).max(0) as u64)
    }

    /// Its tasks that have not ended.
    pub fn tasks(self) -> u64 {
        of(&TASKS, self.0).map_or(0, |tasks| tasks.load(Ordering::Relaxed).max(0) as u64)
    }

    /// Does something in its name.
    pub fn within<T>(self, act: impl FnOnce() -> T) -> T {
        let _back = Back(OWNER.replace(self.0));
        let value = act();
        if let (Some(held), Some(most)) = (of(&HELD, self.0), of(&MOST, self.0)) {
            let held = held.load(Ordering::Relaxed);
            if held > most.load(Ordering::Relaxed) {
                most.store(held, Ordering::Relaxed);
            }
        }
        value
    }

    /// Whether something is being done in its name.
    pub fn is_acting(self) -> bool {
        OWNER.get() == self.0
    }

    /// A task of its.
    pub fn task(self, task: BoxFuture<'static, ()>) -> BoxFuture<'static, ()> {
        add(&TASKS, self.0, 1);
        Owned { owner: self, task }.boxed()
    }
}

/// Does something in nobody's name: what the simulator notes is no node's.
pub fn outside<T>(act: impl FnOnce() -> T) -> T {
    let _back = Back(OWNER.replace(NOBODY));
    act()
}

/// Sets who it was before, after a panic too.
struct Back(u32);

impl Drop for Back {
    fn drop(&mut self) {
        OWNER.set(self.0);
    }
}

struct Owned {
    owner: Owner,
    task: BoxFuture<'static, ()>,
}

impl Future for Owned {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let owner = self.owner;
        owner.within(|| self.task.poll_unpin(context))
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        add(&TASKS, self.owner.0, -1);
    }
}

/// A node's spawner, whose tasks allocate in the node's name.
#[derive(Debug)]
pub struct OwnedSpawner {
    /// Whose.
    pub owner: Owner,
    /// What runs them.
    pub inner: InlineSpawner,
}

impl OwnedSpawner {
    /// As the node takes it.
    pub fn shared(owner: Owner, inner: InlineSpawner) -> Arc<dyn Spawner> {
        Arc::new(Self { owner, inner })
    }
}

impl Spawner for OwnedSpawner {
    fn spawn(&self, name: &'static str, task: BoxFuture<'static, ()>) {
        self.inner.spawn(name, self.owner.task(task));
    }

    fn run_blocking(&self, name: &'static str, job: Box<dyn FnOnce() + Send>) {
        self.inner.run_blocking(name, job);
    }

    fn shutdown(&self) -> BoxFuture<'static, ()> {
        self.inner.shutdown()
    }
}

/// See the module.
#[derive(Debug, Default)]
pub struct Counting;

/// Bytes in front of a piece of memory.
fn front(layout: Layout) -> usize {
    layout.align().max(8)
}

/// Memory of mimalloc, aligned by `align`.
#[allow(unsafe_code)]
fn take(size: usize, align: usize) -> *mut u8 {
    // SAFETY: asking for memory has no conditions.
    let begin = unsafe {
        match align {
            // Aligned so strictly as it is; asking for it costs as much again.
            ..=NATURAL => mi_malloc(size),
            _ => mi_malloc_aligned(size, align),
        }
    };
    begin.cast()
}

// SAFETY: each piece is one of mimalloc, larger by `front` bytes and aligned at least as strictly, and what is given out begins
// `front` bytes behind its begin: a multiple of its alignment. `front` depends on the alignment alone, which is the same when a
// piece is freed or made larger. The 8 bytes before what is given out are the piece's own and aligned for the owner's number.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let front = front(layout);
        let Some(size) = layout.size().checked_add(front) else { return std::ptr::null_mut() };
        let begin = take(size, front);
        if begin.is_null() {
            return begin;
        }
        // A thread that ends has no owner any more.
        let owner = OWNER.try_with(Cell::get).unwrap_or(NOBODY);
        add(&HELD, owner, layout.size() as i64);
        // SAFETY: the piece is larger than `front`, which is 8 or more.
        unsafe {
            let given = begin.add(front);
            given.cast::<u32>().sub(2).write(owner);
            given
        }
    }

    unsafe fn dealloc(&self, given: *mut u8, layout: Layout) {
        // SAFETY: it was given by `alloc` or `realloc`, with this layout.
        unsafe {
            let owner = given.cast::<u32>().sub(2).read();
            add(&HELD, owner, -(layout.size() as i64));
            mi_free(given.sub(front(layout)).cast());
        }
    }

    unsafe fn realloc(&self, given: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let front = front(layout);
        let Some(wanted) = size.checked_add(front) else { return std::ptr::null_mut() };
        // SAFETY: as in `dealloc`; the owner moves along with the piece.
        unsafe {
            let owner = given.cast::<u32>().sub(2).read();
            let begin = given.sub(front).cast();
            let begin: *mut u8 = match front {
                ..=NATURAL => mi_realloc(begin, wanted).cast(),
                _ => mi_realloc_aligned(begin, wanted, front).cast(),
            };
            if begin.is_null() {
                return begin;
            }
            add(&HELD, owner, size as i64 - layout.size() as i64);
            begin.add(front)
        }
    }
}

#[cfg(test)]
mod tests {
    use kith::platform::Executor;

    use super::*;

    #[global_allocator]
    static COUNTING: Counting = Counting;

    #[test]
    fn what_a_task_allocates_is_its_owners_until_it_is_freed_wherever_that_is() {
        let owners = Owner::take(2);
        let executor = Executor::new();
        let (give, take) = futures::channel::oneshot::channel();
        let spawner = OwnedSpawner::shared(owners[0], executor.spawner());
        let task = async move {
            give.send(vec![1u8; 100_000]).unwrap();
        };
        spawner.spawn("allocates", task.boxed());
        assert_eq!(owners[0].tasks(), 1);
        executor.run_until_idle();
        assert_eq!(owners[0].tasks(), 0);
        assert!((100_000..110_000).contains(&owners[0].held()), "{}", owners[0].held());
        let mut got = take.now_or_never().unwrap().unwrap();
        owners[1].within(|| got.resize(200_000, 0));
        assert!(owners[0].held() >= 200_000 && owners[1].held() == 0);
        owners[1].within(|| drop(got));
        assert!(owners[0].held() < 10_000, "{}", owners[0].held());
        assert!(owners[0].most() >= 100_000);
        owners[0].within(|| outside(|| std::mem::forget(vec![1u8; 50_000])));
        assert!(owners[0].held() < 10_000, "what is outside is nobody's");
    }

    #[test]
    fn memory_is_aligned_and_keeps_its_content_as_it_grows() {
        #[repr(align(64))]
        struct Strict([u8; 64]);
        let mut strict = vec![Strict([7; 64])];
        for turn in 0..100 {
            strict.push(Strict([turn; 64]));
            assert_eq!(strict.as_ptr() as usize % 64, 0);
        }
        assert!(strict[0].0 == [7; 64] && strict[100].0 == [99; 64]);
        let mut wide: Vec<u128> = Vec::new();
        wide.extend(0..1_000);
        assert_eq!(wide.as_ptr() as usize % 16, 0);
        assert_eq!(wide.iter().sum::<u128>(), 499_500);
    }
}
