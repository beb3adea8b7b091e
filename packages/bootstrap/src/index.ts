export { bootstrap, type BootstrapOptions, type NodeResult, type Step } from './bootstrap.ts';
export { quote, Ssh, type SshOptions } from './ssh.ts';
