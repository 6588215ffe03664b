/** What the parts of the client share while somebody is signed in. */
import { createContext, useContext, type Accessor } from "solid-js";
import type { MatrixClient } from "matrix-js-sdk";
import type { Config } from "../session/config.ts";
import type { Standing } from "../session/recovery.ts";
import type { Conversations } from "./conversations.ts";
import type { Delivery } from "./delivery.ts";
import type { Extension } from "./extension.ts";
import type { Media } from "./media.ts";
import type { People } from "./people.ts";
import type { SearchIndex } from "./search.ts";
import type { Verifications } from "./verifications.ts";

export interface App {
    client: MatrixClient;
    config: Config;
    /** The node's extension of the client API; null where the homeserver has none. */
    extension: Accessor<Extension | null>;
    conversations: Conversations;
    people: People;
    delivery: Delivery;
    media: Media;
    search: SearchIndex;
    verifications: Verifications;
    /** How this device stands; undefined until it is known. */
    standing: Accessor<Standing | undefined>;
    refreshStanding(): Promise<void>;
    /** Whether the homeserver answers. */
    online: Accessor<boolean>;
    signOut(): Promise<void>;
}

const AppContext = createContext<App>();
export const AppProvider = AppContext.Provider;

export function useApp(): App {
    const app = useContext(AppContext);
    if (!app) throw new Error("nobody is signed in");
    return app;
}
