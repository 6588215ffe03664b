/** Who is signed in on this device, and what only this device keeps of it. */
import { keyValue } from "../lib/database.ts";

export interface Session {
    base_url: string;
    user_id: string;
    device_id: string;
    access_token: string;
}

const KEY = "kith.session";

export function savedSession(): Session | null {
    const text = localStorage.getItem(KEY);
    return text ? (JSON.parse(text) as Session) : null;
}

export function saveSession(session: Session | null): void {
    if (session) localStorage.setItem(KEY, JSON.stringify(session));
    else localStorage.removeItem(KEY);
}

/** The recovery key, kept here until its owner has put it somewhere safe; it is as secret as the other keys on this device. */
export interface Recovery {
    /** As it is written down. */
    encoded: string;
    /** Whether its owner said that it is written down. */
    saved: boolean;
    /** Whether the account's password is made of it, because its owner chose none. */
    is_password: boolean;
    /** Whether the account's identity is still to be made with it: this device may be closed in the middle of that. */
    unfinished?: boolean;
}

export const savedRecovery = () => keyValue.get<Recovery>("recovery");
export const saveRecovery = (recovery: Recovery) => keyValue.set("recovery", recovery);
