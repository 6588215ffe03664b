/** Lists made anew at every change, whose entries stay the same objects. */
import { createComputed, type Accessor } from "solid-js";
import { createStore, reconcile } from "solid-js/store";

/**
 * What `make` gives, with an entry of the same `key` being the object it was before, its fields changed in place. `For` then keeps
 * the elements of such an entry, and with them the keyboard's focus and what a screen reader is at.
 */
export function keyed<T extends object>(key: keyof T & string, make: () => T[]): Accessor<T[]> {
    const [state, setState] = createStore<{ list: T[] }>({ list: [] });
    createComputed(() => setState("list", reconcile(make(), { key, merge: true })));
    return () => state.list;
}
