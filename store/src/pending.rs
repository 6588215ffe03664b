//! The answer to a change that was submitted.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use crate::error::StoreError;

/// The outcome of a change, once it is durable (or failed). Await it, or [`Pending::wait`] on a thread that may block.
/// Dropping it does not take the change back.
#[must_use = "the change is not durable before this resolves"]
pub struct Pending<T, E>(Arc<Slot<T, E>>);

struct Slot<T, E> {
    state: Mutex<State<T, E>>,
    answered: Condvar,
}

enum State<T, E> {
    Waiting(Option<Waker>),
    Answered(Result<T, E>),
    Taken,
}

/// The end that answers. If it is dropped unused, the change is answered [`StoreError::Closed`].
pub(crate) struct Reply<T, E: From<StoreError>>(Option<Arc<Slot<T, E>>>);

pub(crate) fn pending<T, E: From<StoreError>>() -> (Reply<T, E>, Pending<T, E>) {
    let slot = Arc::new(Slot { state: Mutex::new(State::Waiting(None)), answered: Condvar::new() });
    (Reply(Some(slot.clone())), Pending(slot))
}

impl<T, E: From<StoreError>> Reply<T, E> {
    pub(crate) fn answer(mut self, result: Result<T, E>) {
        self.set(result);
    }

    fn set(&mut self, result: Result<T, E>) {
        let Some(slot) = self.0.take() else { return };
        let mut state = slot.state.lock().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *state, State::Answered(result));
        drop(state);
        slot.answered.notify_all();
        if let State::Waiting(Some(waker)) = before {
            waker.wake();
        }
    }
}

impl<T, E: From<StoreError>> Drop for Reply<T, E> {
    fn drop(&mut self) {
        if self.0.is_some() {
            self.set(Err(StoreError::Closed.into()));
        }
    }
}

impl<T, E> Pending<T, E> {
    /// Blocks this thread until the change is durable or has failed. Not for async code.
    ///
    /// # Errors
    /// The change's own, or the store's.
    pub fn wait(self) -> Result<T, E> {
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            match std::mem::replace(&mut *state, State::Taken) {
                State::Answered(result) => return result,
                State::Waiting(waker) => *state = State::Waiting(waker),
                State::Taken => unreachable!("only `wait` and `poll` take, and `wait` consumes"),
            }
            state = self.0.answered.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl<T, E> Future for Pending<T, E> {
    type Output = Result<T, E>;

    /// # Panics
    /// When polled again after it gave its answer, as futures may.
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        match std::mem::replace(&mut *state, State::Taken) {
            State::Answered(result) => Poll::Ready(result),
            State::Waiting(waker) => {
                let waker = match waker {
                    Some(waker) if waker.will_wake(context.waker()) => waker,
                    _ => context.waker().clone(),
                };
                *state = State::Waiting(Some(waker));
                Poll::Pending
            }
            State::Taken => panic!("polled after it was ready"),
        }
    }
}
