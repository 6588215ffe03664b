/** The extension `org.kith.node` of the client-server API: what a kith node tells about itself and those near it. */
import { Method, type MatrixClient } from "matrix-js-sdk";

const PREFIX = "/_matrix/client/unstable/org.kith";

export interface NodeStatus {
    server_name: string;
    version: string;
    peer_id?: string;
    addresses: string[];
    uptime_ms: number;
    peers: { connected: number; nearby: number };
    storage: { database_bytes: number; media_bytes: number; free_bytes?: number };
    queues: { server_name: string; rooms: number; messages: number; away_since_ms?: number; retry_in_ms?: number; dropped: number }[];
}

export interface Person {
    user_id: string;
    displayname?: string;
    avatar_url?: string;
}

export interface Neighbour {
    server_name: string;
    nearby: boolean;
    connected: boolean;
    direct: boolean;
    contact: boolean;
    last_seen_ms?: number;
    users: Person[];
}

export interface Reach {
    waiting: { server_name: string; away_since_ms?: number }[];
    delivered: string[];
    waiting_count?: number;
    delivered_count?: number;
    total: number;
}

export interface Extension {
    node(): Promise<NodeStatus>;
    people(): Promise<Neighbour[]>;
    delivery(room_id: string, events: string[]): Promise<Record<string, Reach>>;
    contact(): Promise<string>;
    addContact(link: string): Promise<string>;
}

/** The extension, if the homeserver announces it. */
export async function findExtension(client: MatrixClient): Promise<Extension | null> {
    const versions = await client.getVersions();
    if (!versions.unstable_features?.["org.kith.node"]) return null;
    const request = <T>(method: Method, path: string, body?: object) =>
        client.http.authedRequest(method, path, undefined, body as never, { prefix: PREFIX }) as Promise<T>;
    return {
        node: () => request<NodeStatus>(Method.Get, "/node"),
        people: async () => (await request<{ people: Neighbour[] }>(Method.Get, "/people")).people,
        delivery: async (room_id, events) =>
            (await request<{ events: Record<string, Reach> }>(Method.Post, `/rooms/${encodeURIComponent(room_id)}/delivery`, { events })).events,
        contact: async () => (await request<{ link: string }>(Method.Get, "/contact")).link,
        addContact: async (link) => (await request<{ user_id: string }>(Method.Post, "/contact", { link })).user_id,
    };
}
