// A client of the npm package rtmp-client that does what lines on standard input say, and says on standard output what comes, both in JSON.
const readline = require('readline');
const { NetConnection, SharedObject } = require('rtmp-client');
const Symbols = require('rtmp-client/lib/Symbols');

// So often that a server that does not answer pings is left at once.
NetConnection[Symbols.PING_FREQUENCY] = 200;
NetConnection[Symbols.PING_TIMEOUT] = 3000;

const say = (what) => console.log(JSON.stringify(what));
const connection = new NetConnection();
const objects = {};

connection.onStatus = (info) => say({ status: info });

const does = {
    connect: ({ url, arguments: args }) => connection.connect(url, ...args),
    // From now on the server may call this method, which gives a value, or where it is `{"first": true}` its first argument.
    method: ({ name, value }) => {
        connection[name] = (...args) => {
            say({ called: name, arguments: args });
            return value && value.first ? args[0] : value;
        };
    },
    call: ({ number, name, arguments: args }) => connection.call(name, {
        onResult: (value) => say({ number, result: value === undefined ? null : value }),
        onStatus: (info) => say({ number, failed: info }),
    }, ...args),
    use: ({ name }) => {
        const object = SharedObject.get(name, false, connection);
        object.onSync = (list) => say({ object: name, version: object.version, changes: list });
        object.onStatus = (info) => say({ object: name, status: info });
        objects[name] = object;
    },
    set: ({ name, slot, value }) => objects[name].setProperty(slot, value),
    clear: ({ name }) => objects[name].clear(),
    close: () => connection.close(),
};

readline.createInterface({ input: process.stdin })
    .on('line', (line) => {
        const what = JSON.parse(line);
        does[what.do](what);
    })
    .on('close', () => process.exit(0));
