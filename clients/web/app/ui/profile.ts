/** A user's name and picture, as far as they are known here. */
import { createResource, type Accessor } from "solid-js";
import { ClientEvent, UserEvent, type MatrixClient } from "matrix-js-sdk";
import { createSignal, onCleanup } from "solid-js";
import { localpart, safeName } from "../lib/names.ts";
import { useApp } from "../model/app.ts";

export interface Profile {
    name: string;
    avatar_url: string | null;
}

/** What somebody is called, as far as a sync has told; the SDK's users are called by their address until then. */
export function knownName(client: MatrixClient, user_id: string): string | undefined {
    const name = client.getUser(user_id)?.displayName;
    return name && name !== user_id ? name : undefined;
}

export function useProfile(user_id: Accessor<string>): Accessor<Profile> {
    const { client } = useApp();
    const [version, setVersion] = createSignal(0);
    const changed = () => setVersion((n) => n + 1);
    client.on(UserEvent.DisplayName, changed);
    client.on(UserEvent.AvatarUrl, changed);
    client.on(ClientEvent.Sync, changed);
    onCleanup(() => {
        client.off(UserEvent.DisplayName, changed);
        client.off(UserEvent.AvatarUrl, changed);
        client.off(ClientEvent.Sync, changed);
    });
    const [asked] = createResource(user_id, (id) => client.getProfileInfo(id).catch(() => null));
    return () => {
        version();
        const user = client.getUser(user_id());
        const name = knownName(client, user_id()) ?? asked()?.displayname ?? localpart(user_id());
        return { name: safeName(name) || localpart(user_id()), avatar_url: user?.avatarUrl ?? asked()?.avatar_url ?? null };
    };
}
