//! A queue from async callers to threads that block.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// A queue with any number of callers and a fixed number of consumers.
///
/// It has no bound of its own: every item belongs to a caller that waits for its answer.
pub(crate) struct Queue<T> {
    state: Mutex<State<T>>,
    ready: Condvar,
}

struct State<T> {
    items: VecDeque<T>,
    open: bool,
    consumers: usize,
    waiting: usize,
}

impl<T> State<T> {
    fn share(&mut self, limit: usize) -> Vec<T> {
        // as many as the others will have, if they come now
        let count = limit.min(self.items.len().div_ceil(self.consumers));
        self.items.drain(..count).collect()
    }
}

/// A thread's right to take from a queue. When the last is dropped, the queue closes and what is left in it is dropped, so
/// that no caller waits for an answer that nobody gives.
pub(crate) struct Consumer<T>(Arc<Queue<T>>);

impl<T> Queue<T> {
    /// An open queue and its consumers.
    pub(crate) fn new(consumers: usize) -> (Arc<Self>, Vec<Consumer<T>>) {
        let state = State {
            items: VecDeque::new(),
            open: true,
            consumers,
            waiting: 0,
        };
        let queue = Arc::new(Self {
            state: Mutex::new(state),
            ready: Condvar::new(),
        });
        let consumers = (0..consumers).map(|_| Consumer(Arc::clone(&queue))).collect();
        (queue, consumers)
    }

    /// Adds an item, or drops it where the queue is closed.
    pub(crate) fn push(&self, item: T) {
        let mut state = self.state();
        if state.open {
            state.items.push_back(item);
            // a wake-up is a system call, and under load nobody sleeps
            let wake = state.waiting > 0;
            drop(state);
            if wake {
                self.ready.notify_one();
            }
        }
    }

    /// Takes no more; what is in it is still given out.
    pub(crate) fn close(&self) {
        self.state().open = false;
        self.ready.notify_all();
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Consumer<T> {
    /// Waits for an item and takes this consumer's share of what there is, in its order, up to `limit`; none when the queue
    /// is closed and empty. `limit` is not zero.
    pub(crate) fn take(&self, limit: usize) -> Option<Vec<T>> {
        let mut state = self.0.state();
        while state.items.is_empty() {
            if !state.open {
                return None;
            }
            state.waiting += 1;
            state = self.0.ready.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.waiting -= 1;
        }
        Some(state.share(limit))
    }

    /// Takes what has come meanwhile, as [`take`](Self::take) does, without waiting; nothing where there is nothing.
    pub(crate) fn more(&self, limit: usize) -> Vec<T> {
        self.0.state().share(limit)
    }
}

impl<T> Drop for Consumer<T> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.consumers -= 1;
        if state.consumers == 0 {
            state.open = false;
            let left = std::mem::take(&mut state.items);
            drop(state);
            drop(left);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_come_in_order_and_together() {
        let (queue, mut consumers) = Queue::new(1);
        let consumer = consumers.remove(0);
        for item in 0..5 {
            queue.push(item);
        }
        assert_eq!(consumer.take(3), Some(vec![0, 1, 2]));
        assert_eq!(consumer.more(1), vec![3]);
        assert_eq!(consumer.take(3), Some(vec![4]));
        assert!(consumer.more(3).is_empty());
        let taker = std::thread::spawn(move || (consumer.take(9), consumer.take(9), consumer.take(9)));
        queue.push(5);
        while !queue.state().items.is_empty() {
            std::thread::yield_now();
        }
        queue.push(6);
        queue.close();
        queue.push(7);
        assert_eq!(taker.join().unwrap(), (Some(vec![5]), Some(vec![6]), None));
    }

    #[test]
    fn consumers_share() {
        let (queue, consumers) = Queue::new(2);
        for item in 0..5 {
            queue.push(item);
        }
        assert_eq!(consumers[0].take(9), Some(vec![0, 1, 2]));
        assert_eq!(consumers[1].take(9), Some(vec![3]));
        assert_eq!(consumers[0].take(9), Some(vec![4]));
    }

    #[test]
    fn what_nobody_takes_is_dropped() {
        let (queue, consumers) = Queue::new(2);
        let item = Arc::new(());
        queue.push(Arc::clone(&item));
        drop(consumers);
        queue.push(Arc::clone(&item));
        assert_eq!(Arc::strong_count(&item), 1);
    }
}
