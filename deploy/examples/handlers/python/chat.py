"""A chat: `python chat.py --listen 127.0.0.1:9400`. README.md has its methods."""

import asyncio

from handler import PENDING, Accept, Allow, CallError, Instance, Refuse, Reject, main

# Names of clients by their ids. Kept beside the instances, because a call of an origin may break and clients stay.
NAMES = {}


class Chat(Instance):
    async def connect(self, client, name="guest", *others):
        client.name = name
        if name == "banned":
            return Reject("You are banned.", application={"reason": "banned", "days": 3})
        if name == "moved":
            return Reject("The room is elsewhere.", redirect="rtmp://127.0.0.1:1/chat")
        if name == "slow":
            self.spawn(self.let_in_later(client))
            return PENDING
        return self.let_in(client)

    def let_in(self, client):
        NAMES[client.id] = client.name
        access = "" if client.name == "reader" else None
        return Accept(write_access=access, properties={"room": self.name, "name": client.name})

    async def let_in_later(self, client):
        """As a program does that asks somebody else first."""
        await asyncio.sleep(0.3)
        self.decide(client, self.let_in(client))

    async def resumed(self, client):
        client.name = NAMES.get(client.id, "guest")

    async def left(self, client):
        if NAMES.pop(client.id, None):
            self.tell(None, "left", client.name)

    def named(self, name):
        for client in self.clients.values():
            if client.name == name:
                return client
        raise CallError(f"Nobody here is called {name}.")

    # Calls.

    async def call_echo(self, client, value=None, *others):
        return value

    async def call_sum(self, client, *numbers):
        return sum(numbers)

    async def call_whoami(self, client):
        info = client.info
        return {
            "id": client.id,
            "name": client.name,
            "ip": info.ip,
            "protocol": info.protocol,
            "agent": info.agent,
            "objectEncoding": info.object_encoding,
            "instance": self.name,
            "people": sorted(other.name for other in self.clients.values()),
        }

    async def call_later(self, client, milliseconds, value=None):
        await asyncio.sleep(milliseconds / 1000)
        return value

    async def call_fail(self, client, text):
        raise CallError(text)

    async def call_failWith(self, client, info):
        raise CallError(info=info)

    async def call_callMe(self, client, method, *arguments):
        """Calls back, and gives the client what it answered itself."""
        return await client.call(method, *arguments)

    async def call_say(self, client, text):
        self.tell(None, "heard", client.name, text)

    async def call_tell(self, client, name, text):
        self.named(name).tell("whispered", client.name, text)

    async def call_ask(self, client, name, method, *arguments):
        """Calls another client, and gives what that one answered."""
        return await self.named(name).call(method, *arguments)

    async def call_kick(self, client, name):
        self.named(name).disconnect("You were asked to leave.")

    async def call_mute(self, client, name):
        self.named(name).grant(write_access="")

    # Streams: `secret` for nobody, `stage` is kept under another name, everything else as it is.

    async def publish(self, client, stream, mode, query):
        return self.placed(stream)

    async def play(self, client, stream, query):
        return self.placed(stream)

    def placed(self, stream):
        if stream == "secret":
            return Refuse("Nobody may.")
        if stream == "stage":
            return Allow("hall-7")
        return Allow()

    # Shared objects. The first argument is the name of a temporary object, or that of a persistent one behind `persistent:`.

    def object(self, name):
        kept = name.removeprefix("persistent:")
        return self.shared_object(kept, persistent=kept != name)

    async def call_objectGet(self, client, name, *slots):
        return await self.object(name).get(*slots)

    async def call_objectSet(self, client, name, slots):
        return await self.object(name).apply(set=slots)

    async def call_objectRemove(self, client, name, *slots):
        return await self.object(name).apply(remove=slots)

    async def call_objectClear(self, client, name):
        return await self.object(name).apply(clear=True)

    async def call_objectSend(self, client, name, method, *arguments):
        return await self.object(name).apply(send=(method, *arguments))

    async def call_objectSize(self, client, name):
        return await self.object(name).size()

    async def call_objectFlush(self, client, name):
        await self.object(name).flush()

    async def call_objectWatch(self, client, name):
        await self.object(name).watch()

    async def object_changed(self, change):
        """Tells everybody which slots of a watched object were set or removed, and which messages were sent."""
        what = []
        for each in change.changes:
            match each.WhichOneof("change"):
                case "set":
                    what.append(f"set {each.set.name}")
                case "remove":
                    what.append(f"remove {each.remove}")
                case "send":
                    what.append(f"send {each.send.name}")
                case "clear":
                    what.append("clear")
        self.tell(None, "changed", change.object, change.version, what)


if __name__ == "__main__":
    main(Chat)
