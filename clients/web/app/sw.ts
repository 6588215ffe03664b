/// The service worker: keeps the client's own files, so that it opens without any network. Nothing of Matrix passes through it.
export {};
const worker = self as unknown as {
    addEventListener(type: string, listener: (event: WorkerEvent) => void): void;
    skipWaiting(): Promise<void>;
    clients: { claim(): Promise<void>; matchAll(o: object): Promise<OpenClient[]>; openWindow(url: string): Promise<unknown> };
    location: Location;
};
interface OpenClient {
    focus(): Promise<unknown>;
    postMessage(message: unknown): void;
}
interface WorkerEvent {
    waitUntil(work: Promise<unknown>): void;
    respondWith(answer: Promise<Response>): void;
    request: Request;
    notification: { close(): void; data?: { room?: string } };
}

const FILES = "__PRECACHE__" as unknown as string[];
const CACHE = "kith-client-__VERSION__";

worker.addEventListener("install", (event) => {
    event.waitUntil(
        caches
            .open(CACHE)
            .then((cache) => cache.addAll(FILES.map((file) => new Request(file, { cache: "reload" }))))
            .then(() => worker.skipWaiting()),
    );
});

worker.addEventListener("activate", (event) => {
    event.waitUntil(
        caches
            .keys()
            .then((names) => Promise.all(names.filter((name) => name.startsWith("kith-client-") && name !== CACHE).map((name) => caches.delete(name))))
            .then(() => worker.clients.claim()),
    );
});

worker.addEventListener("fetch", (event) => {
    const url = new URL(event.request.url);
    const scope = new URL("./", worker.location.href).pathname;
    if (event.request.method !== "GET" || url.origin !== worker.location.origin || !url.pathname.startsWith(scope)) return;
    const path = url.pathname.slice(scope.length);
    if (event.request.mode === "navigate" && path === "") event.respondWith(page(event.request));
    else if (path.startsWith("assets/") || FILES.includes(`./${path}`)) event.respondWith(kept(event.request));
});

/** The page is asked for anew, so that an update is seen; what is kept is shown when that takes long or fails. */
async function page(request: Request): Promise<Response> {
    const cached = await caches.match("./", { cacheName: CACHE });
    if (!cached) return fetch(request);
    try {
        const fresh = await fetch(request, { signal: AbortSignal.timeout(2000) });
        return fresh.ok ? fresh : cached;
    } catch {
        return cached;
    }
}

async function kept(request: Request): Promise<Response> {
    return (await caches.match(request, { ignoreVary: true })) ?? fetch(request);
}

worker.addEventListener("notificationclick", (event) => {
    event.notification.close();
    const room = event.notification.data?.room;
    event.waitUntil(
        worker.clients.matchAll({ type: "window", includeUncontrolled: true }).then(async (open) => {
            const [first] = open;
            if (!first) return worker.clients.openWindow(room ? `./#/room/${encodeURIComponent(room)}` : "./");
            // A browser may refuse; the conversation is opened all the same.
            await first.focus().catch(() => {});
            if (room) first.postMessage({ open: room });
        }),
    );
});
