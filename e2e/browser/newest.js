// The test client on the newest mediasoup-client.
import { Device, version } from 'mediasoup-client';
import { install } from './install.js';

install({ version, makeDevice: () => Device.factory() });
