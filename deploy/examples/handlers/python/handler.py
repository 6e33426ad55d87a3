"""The server of `headwater.v1.Handler`, for applications written in Python.

Write a class like this, give it to `main`, and name the address in the application's `app.toml` (see README.md):

    class Greeter(Instance):
        async def connect(self, client, name="somebody", *others):
            client.name = name
            return Accept()

        async def call_greet(self, client):
            return f"Hello, {client.name}"

    main(Greeter)

There is one object of the class for each instance of the application. Everything happens on one thread: what a method reads and
writes between two `await`s is its own. A method that takes time holds nobody up as long as it awaits.
"""

import argparse
import asyncio
import datetime
import itertools
import logging
import pathlib
import sys
from dataclasses import dataclass, field

import grpc

log = logging.getLogger("handler")

# Where headwater/v1/handler.proto is: in the source of Headwater, unless PYTHONPATH has it elsewhere.
sys.path.append(str(pathlib.Path(__file__).resolve().parents[4] / "proto"))
pb, services = grpc.protos_and_services("headwater/v1/handler.proto")

# What waits to be sent to an origin, at most. Nothing may be dropped, so an origin that reads so slowly is left: it calls again.
OUTGOING = 100_000


# ---- values ----


class Undefined:
    """ActionScript's `undefined`; its `null` is None."""

    def __repr__(self):
        return "undefined"


UNDEFINED = Undefined()


def to_value(value):
    """A Python value as the message that says it."""
    match value:
        case pb.Value():
            return value
        case None:
            return pb.Value(null=True)
        case Undefined():
            return pb.Value(undefined=True)
        case bool():
            return pb.Value(boolean=value)
        case int() | float():
            return pb.Value(number=value)
        case str():
            return pb.Value(string=value)
        case bytes():
            return pb.Value(byte_array=value)
        case datetime.datetime():
            return pb.Value(date=value.timestamp() * 1000)
        case dict():
            properties = [pb.Property(name=str(name), value=to_value(held)) for name, held in value.items()]
            return pb.Value(object=pb.ObjectValue(properties=properties))
        case list() | tuple():
            return pb.Value(array=pb.ArrayValue(values=[to_value(held) for held in value]))
    raise TypeError(f"ActionScript has no {type(value).__name__}")


def from_value(value):
    """The Python value that a message says. What Python has no word for stays a message, and can be given back as it is."""
    kind = value.WhichOneof("value")
    match kind:
        case "null":
            return None
        case "undefined":
            return UNDEFINED
        case "date":
            return datetime.datetime.fromtimestamp(value.date / 1000, datetime.timezone.utc)
        case "object":
            return {held.name: from_value(held.value) for held in value.object.properties}
        case "array":
            return [from_value(held) for held in value.array.values]
        case "boolean" | "number" | "string" | "byte_array":
            return getattr(value, kind)
    return value


def from_values(values):
    return [from_value(value) for value in values]


# ---- answers ----


@dataclass
class Accept:
    """The client is let in. Paths are prefixes with a `;` between them; None is everything, "" is nothing."""

    read_access: str | None = None
    write_access: str | None = None
    # Further properties of the information object.
    properties: dict = field(default_factory=dict)


@dataclass
class Reject:
    """The client is refused. It finds `application` in the information object; a redirect sends it elsewhere."""

    description: str = ""
    application: object = None
    redirect: str = ""


# The client waits until `Instance.decide` is called for it.
PENDING = object()


@dataclass
class Allow:
    """A stream may be published or played, under its own name or another one."""

    stream: str = ""


@dataclass
class Refuse:
    """A stream may not be published or played. Without a code the client gets the usual one."""

    description: str = ""
    code: str = ""


class CallError(Exception):
    """Ends a call with an error: with a description, or with an information object."""

    def __init__(self, description="", info=None):
        super().__init__(description)
        self.info = info


# ---- what an application is made of ----


class Client:
    """One client, from `connect` until `left`. Applications keep what they like on it."""

    def __init__(self, instance, info):
        self.instance = instance
        self.info = info
        self.id = info.id

    async def call(self, method, *arguments):
        """Calls a method of the client and gives its result."""
        return await self.instance.ask_client(self, method, arguments)

    def tell(self, method, *arguments):
        """Calls a method of the client that gives no result."""
        self.instance.tell([self], method, *arguments)

    def disconnect(self, description="", code=""):
        message = pb.DisconnectClient(client=self.id, code=code, description=description)
        self.instance.send(disconnect=message)

    def grant(self, read_access=None, write_access=None):
        """Changes what the client may read and write."""
        access = pb.GrantClient(client=self.id, read_access=read_access, write_access=write_access)
        self.instance.send(grant=access)


class SharedObject:
    """A shared object of the instance."""

    def __init__(self, instance, name, persistent):
        self.instance = instance
        self.name = name
        self.persistent = persistent

    async def get(self, *slots):
        """The slots of these names, or all, as a dict."""
        answer = await self._ask(get=pb.ObjectGet(names=slots))
        return {slot.name: from_value(slot.value) for slot in answer.slots}

    async def apply(self, set=None, remove=(), clear=False, send=None):
        """Changes the object and sends to its users, all under one version. `send` is (name, argument, ...). Gives the version."""
        changes = [pb.ObjectChange(clear=True)] if clear else []
        for name, value in (set or {}).items():
            changes.append(pb.ObjectChange(set=pb.Property(name=name, value=to_value(value))))
        changes += [pb.ObjectChange(remove=name) for name in remove]
        if send:
            name, *arguments = send
            arguments = [to_value(value) for value in arguments]
            changes.append(pb.ObjectChange(send=pb.ObjectSend(name=name, arguments=arguments)))
        return (await self._ask(apply=pb.ObjectApply(changes=changes))).version

    async def size(self):
        """How many slots there are."""
        return (await self._ask(size=True)).size

    async def flush(self):
        """Waits until everything that was applied before is durable."""
        await self._ask(flush=True)

    async def watch(self, wanted=True):
        """From now on `Instance.object_changed` is called, or no more."""
        await self._ask(watch=wanted)

    async def _ask(self, **action):
        return await self.instance.command(self, action)


class Instance:
    """One instance of the application, as long as the call of its origin lasts. Applications derive from it.

    What a class defines, it decides: `connect`, `publish`, `play`, `use_object`, and `call_NAME` for each method that clients may call.
    What it does not define is allowed as `app.toml` has it; other calls fail as unknown.
    """

    def __init__(self, started):
        self.vhost = started.vhost
        self.app = started.app
        self.name = started.instance
        # Greater in each later tenure: tells a stale caller from a new one.
        self.epoch = started.epoch
        self.clients = {}
        self._outgoing = asyncio.Queue(OUTGOING)
        self._waiting = {}
        self._numbers = itertools.count(1)
        self._tasks = set()

    # To be overridden, as far as an application likes. `connect`, `publish`, `play` and `use_object` are asked for only where they are.

    async def started(self):
        """The instance begins here; clients of an earlier call are said next, one by one."""

    async def resumed(self, client):
        """A client that was accepted before."""

    async def left(self, client):
        """A client is gone."""

    async def stream_ended(self, client, stream, was_published):
        """A client publishes or plays a stream no more."""

    async def object_changed(self, change):
        """An object that is watched was changed: an `ObjectChanged` of handler.proto."""

    # For applications.

    def decide(self, client, decision):
        """Lets a pending client in, or refuses it."""
        reply = pb.ConnectReply(client=client.id)
        if isinstance(decision, Accept):
            reply.accept = True
            if decision.read_access is not None:
                reply.read_access = decision.read_access
            if decision.write_access is not None:
                reply.write_access = decision.write_access
            if decision.properties:
                reply.properties.CopyFrom(to_value(decision.properties))
        else:
            self.clients.pop(client.id, None)
            reply.description = decision.description
            reply.redirect = decision.redirect
            if decision.application is not None:
                reply.application.CopyFrom(to_value(decision.application))
        self.send(connect=reply)

    def tell(self, clients, method, *arguments):
        """Calls a method of these clients; of all, where `clients` is None. There are no results."""
        ids = None if clients is None else [client.id for client in clients]
        if ids != []:
            arguments = [to_value(value) for value in arguments]
            self.send(call_client=pb.CallClient(clients=ids, name=method, arguments=arguments))

    def shared_object(self, name, persistent=False):
        return SharedObject(self, name, persistent)

    def spawn(self, work):
        """Runs a coroutine beside the others; it ends with the instance at the latest."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def shut_down(self, description=""):
        """Ends the instance: its clients are told so."""
        self.send(shutdown=pb.ShutdownInstance(description=description))

    # The call of the origin.

    def send(self, **response):
        try:
            self._outgoing.put_nowait(pb.HandlerResponse(**response))
        except asyncio.QueueFull:
            raise RuntimeError("the origin reads too slowly") from None

    async def ask_client(self, client, method, arguments):
        number, answer = self._expect(client.id)
        arguments = [to_value(value) for value in arguments]
        self.send(call_client=pb.CallClient(clients=[client.id], call=number, name=method, arguments=arguments))
        answer = await answer
        if answer.failed:
            raise CallError(f"{method} failed at the client", from_value(answer.value))
        return from_value(answer.value)

    async def command(self, shared, action):
        number, answer = self._expect(None)
        command = pb.ObjectCommand(command=number, object=shared.name, persistent=shared.persistent, **action)
        self.send(object=command)
        answer = await answer
        if answer.failed:
            raise CallError(answer.description, {"level": "error", "code": answer.code, "description": answer.description})
        return answer

    def _expect(self, client):
        """A number for an answer, and the answer that will come. Numbers of calls and commands are not told apart."""
        number = next(self._numbers)
        answer = asyncio.get_running_loop().create_future()
        self._waiting[number] = (client, answer)
        return number, answer

    def _answered(self, number, answer):
        _, waiting = self._waiting.pop(number, (None, None))
        if waiting and not waiting.done():
            waiting.set_result(answer)

    def _hello(self):
        has = lambda name: hasattr(self, name)
        return pb.HandlerHello(
            connect=has("connect"),
            publish=has("publish"),
            play=has("play"),
            use_object=has("use_object"),
            call=any(name.startswith("call_") for name in dir(self)),
            ends=True,
        )

    async def run(self, requests):
        """Gives what is to be said to the origin, until it hangs up."""
        await self.started()
        self.send(hello=self._hello())
        reading = asyncio.ensure_future(self._read(requests))
        try:
            while True:
                saying = asyncio.ensure_future(self._outgoing.get())
                await asyncio.wait([reading, saying], return_when=asyncio.FIRST_COMPLETED)
                if not saying.done():
                    saying.cancel()
                    # Raises what went wrong there.
                    reading.result()
                    return
                yield saying.result()
        finally:
            for task in [reading, *self._tasks]:
                task.cancel()

    async def _read(self, requests):
        async for request in requests:
            kind = request.WhichOneof("request")
            if kind == "stopping":
                log.info("%s/%s stops: %s", self.app, self.name, request.stopping.reason)
            elif kind:
                self._take(kind, getattr(request, kind))

    def _take(self, kind, request):
        """Does what a message asks for. Coroutines begin in the order of messages, and go on beside each other."""
        match kind:
            case "connect":
                client = self.clients[request.client.id] = Client(self, request.client)
                self.spawn(self._connect(client, from_values(request.arguments)))
            case "resumed":
                client = self.clients[request.client.id] = Client(self, request.client)
                self.spawn(self.resumed(client))
            case "left":
                self._forget_answers(request.client)
                if client := self.clients.pop(request.client, None):
                    self.spawn(self.left(client))
            case "answer":
                self._answered(request.call, request)
            case "object_answer":
                self._answered(request.command, request)
            case "object_changed":
                self.spawn(self.object_changed(request))
            case _:
                # What concerns a client that is gone needs no answer.
                if client := self.clients.get(request.client):
                    self.spawn(self._of_client(kind, client, request))

    async def _of_client(self, kind, client, request):
        match kind:
            case "call":
                await self._call(client, request)
            case "publish":
                decision = await self._decide(self.publish(client, request.stream, request.mode, request.query))
                self.send(stream=stream_reply(request.ask, decision))
            case "play":
                decision = await self._decide(self.play(client, request.stream, request.query))
                self.send(stream=stream_reply(request.ask, decision))
            case "use_object":
                try:
                    read, write = await self.use_object(client, request.object, request.persistent)
                except Exception:
                    log.exception("use_object")
                    read, write = False, False
                self.send(use_object=pb.UseObjectReply(ask=request.ask, read=read, write=write))
            case "unpublished" | "stopped":
                await self.stream_ended(client, request.stream, kind == "unpublished")

    async def _connect(self, client, arguments):
        try:
            decision = await self.connect(client, *arguments)
        except Exception:
            # Arguments that the application does not take, for one.
            log.exception("connect")
            decision = Reject("The application failed.")
        if decision is not PENDING:
            self.decide(client, decision)

    async def _decide(self, work):
        try:
            return await work
        except Exception:
            log.exception("a decision")
            return Refuse("The application failed.")

    async def _call(self, client, request):
        method = getattr(self, f"call_{request.name}", None)
        reply = pb.CallReply(call=request.call, failed=True)
        try:
            if method is None:
                raise CallError(f"Method not found ({request.name}).")
            reply.value.CopyFrom(to_value(await method(client, *from_values(request.arguments))))
            reply.failed = False
        except CallError as error:
            reply.description = str(error)
            if error.info is not None:
                reply.value.CopyFrom(to_value(error.info))
        except Exception as error:
            log.exception("call %s", request.name)
            reply.description = f"Failed to execute method ({request.name}): {error}"
        if request.call:
            self.send(call=reply)

    def _forget_answers(self, client):
        """A client that is gone answers no more."""
        for number, (asked, answer) in list(self._waiting.items()):
            if asked == client and not answer.done():
                del self._waiting[number]
                answer.set_exception(CallError("The client is gone."))


def stream_reply(ask, decision):
    if isinstance(decision, Allow):
        return pb.StreamReply(ask=ask, allow=True, stream=decision.stream)
    return pb.StreamReply(ask=ask, code=decision.code, description=decision.description)


# ---- the program ----


class Service(services.HandlerServicer):
    def __init__(self, application):
        self.application = application

    async def Attach(self, requests, context):
        first = await anext(requests, None)
        if first is None or first.WhichOneof("request") != "started":
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "the first message is InstanceStarted")
        instance = self.application(first.started)
        log.info("%s/%s of %s, epoch %d", instance.app, instance.name, first.started.origin, instance.epoch)
        async for response in instance.run(requests):
            yield response


async def serve(application, address):
    """Serves until it is cancelled. Says the port, for whoever asked for any (0)."""
    server = grpc.aio.server()
    services.add_HandlerServicer_to_server(Service(application), server)
    host = address.rpartition(":")[0]
    port = server.add_insecure_port(address)
    await server.start()
    print(f"listening on http://{host}:{port}", flush=True)
    await server.wait_for_termination()


def main(application):
    parser = argparse.ArgumentParser()
    parser.add_argument("--listen", default="127.0.0.1:9400", metavar="ADDRESS:PORT")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    try:
        asyncio.run(serve(application, arguments.listen))
    except KeyboardInterrupt:
        pass
