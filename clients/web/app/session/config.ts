/** What the place that serves this page says about its homeserver (`/config.json`). */
export interface Config {
    /** Where the client-server API is. */
    base_url: string;
    server_name?: string;
    /** Whether a kith node serves this page itself. */
    kith?: boolean;
}

export async function loadConfig(): Promise<Config> {
    const here = location.origin;
    try {
        const answer = await fetch("./config.json", { cache: "no-store" });
        const given = (await answer.json()) as Partial<Config>;
        // A node's own page talks to where it came from: `localhost` and `127.0.0.1` are the same node, but not the same origin.
        const base_url = given.kith || !given.base_url ? here : given.base_url.replace(/\/+$/, "");
        const config = { ...given, base_url };
        localStorage.setItem("kith.config", JSON.stringify(config));
        return config;
    } catch {
        const kept = localStorage.getItem("kith.config");
        return kept ? (JSON.parse(kept) as Config) : { base_url: here };
    }
}
