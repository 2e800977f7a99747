// The test client on the version that the app ships.
import { Device, version } from 'mediasoup-client-314';
import { install } from './install.js';

install({ version, makeDevice: async () => new Device() });
