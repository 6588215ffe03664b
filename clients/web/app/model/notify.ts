/** Notifications by the browser, while the client is open but not looked at; and the number in the title. */
import { MatrixEventEvent, RoomEvent, SyncState, type MatrixClient, type MatrixEvent, type Room } from "matrix-js-sdk";
import { isShown } from "./kinds.ts";
import { nameOf, summaryOf } from "./preview.ts";
import { safeName } from "../lib/names.ts";
import { go, roomPath } from "../lib/router.ts";

export type Wish = "full" | "names" | "off";

export const notificationWish = (): Wish => (localStorage.getItem("kith.notifications") as Wish | null) ?? "full";
export const setNotificationWish = (wish: Wish) => localStorage.setItem("kith.notifications", wish);

export function createNotifications(client: MatrixClient, isOpen: (room_id: string) => boolean): { stop(): void } {
    const since = Date.now();
    const waiting = new Set<string>();

    function consider(event: MatrixEvent, room?: Room | null): void {
        if (!room || event.getTs() < since - 60_000 || event.getSender() === client.getSafeUserId() || !isShown(event) || event.isState()) return;
        if (client.getSyncState() !== SyncState.Syncing && client.getSyncState() !== SyncState.Prepared) return;
        if (event.isBeingDecrypted() || event.getType() === "m.room.encrypted") {
            waiting.add(event.getId()!);
            return;
        }
        if (document.visibilityState === "visible" && document.hasFocus() && isOpen(room.roomId)) return;
        const rule = client.getPushActionsForEvent(event);
        if (rule?.notify) void show(event, room);
    }

    async function show(event: MatrixEvent, room: Room): Promise<void> {
        const wish = notificationWish();
        if (wish === "off" || !("Notification" in window) || Notification.permission !== "granted") return;
        const body = wish === "full" ? `${nameOf(event, room)}: ${summaryOf(event).slice(0, 200)}` : nameOf(event, room);
        const options: NotificationOptions = { body, tag: room.roomId, icon: "./icon-192.png", data: { room: room.roomId } };
        const worker = await navigator.serviceWorker?.getRegistration().catch(() => undefined);
        if (worker?.active) await worker.showNotification(safeName(room.name), options).catch(() => {});
        else {
            new Notification(safeName(room.name), options).onclick = () => {
                focus();
                go(roomPath(room.roomId));
            };
        }
    }

    /** What was read, here or on another device, need not be told any more. */
    async function takeBack(): Promise<void> {
        const worker = await navigator.serviceWorker?.getRegistration().catch(() => undefined);
        for (const shown of (await worker?.getNotifications().catch(() => [])) ?? []) {
            const room = client.getRoom((shown.data as { room?: string } | null)?.room);
            if (!room?.getUnreadNotificationCount()) shown.close();
        }
    }

    const onTimeline = (event: MatrixEvent, room?: Room, toStart?: boolean, removed?: boolean, data?: { liveEvent?: boolean }) => {
        if (!toStart && !removed && data?.liveEvent !== false) consider(event, room);
    };
    const onDecrypted = (event: MatrixEvent) => {
        if (waiting.delete(event.getId()!)) consider(event, client.getRoom(event.getRoomId()));
    };
    const onRead = () => void takeBack();
    client.on(RoomEvent.Receipt, onRead);
    client.on(RoomEvent.Timeline, onTimeline as never);
    client.on(MatrixEventEvent.Decrypted, onDecrypted);
    return {
        stop() {
            client.off(RoomEvent.Receipt, onRead);
            client.off(RoomEvent.Timeline, onTimeline as never);
            client.off(MatrixEventEvent.Decrypted, onDecrypted);
        },
    };
}
