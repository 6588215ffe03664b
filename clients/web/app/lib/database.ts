/** The client's own database on this device: settings that are secret, and the texts of messages for searching. */

const NAME = "kith-local";
const VERSION = 1;

let opened: Promise<IDBDatabase> | undefined;

export function database(): Promise<IDBDatabase> {
    opened ??= new Promise((resolve, reject) => {
        const request = indexedDB.open(NAME, VERSION);
        request.onupgradeneeded = () => {
            request.result.createObjectStore("values");
            request.result.createObjectStore("messages", { keyPath: "event_id" });
        };
        request.onsuccess = () => {
            request.result.onversionchange = () => request.result.close();
            resolve(request.result);
        };
        request.onerror = () => reject(request.error);
    });
    return opened;
}

export function finished<T>(request: IDBRequest<T>): Promise<T> {
    return new Promise((resolve, reject) => {
        request.onsuccess = () => resolve(request.result);
        request.onerror = () => reject(request.error);
    });
}

export async function store(name: "values" | "messages", mode: IDBTransactionMode): Promise<IDBObjectStore> {
    return (await database()).transaction(name, mode).objectStore(name);
}

export const keyValue = {
    async get<T>(key: string): Promise<T | undefined> {
        return finished((await store("values", "readonly")).get(key)) as Promise<T | undefined>;
    },
    async set(key: string, value: unknown): Promise<void> {
        await finished((await store("values", "readwrite")).put(value, key));
    },
};

/** Forgets everything in it. */
export async function clearDatabase(): Promise<void> {
    for (const name of ["values", "messages"] as const) await finished((await store(name, "readwrite")).clear());
}
