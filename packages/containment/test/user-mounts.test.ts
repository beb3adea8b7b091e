// The attacks of attacks-mounts.test.ts on what an ordinary user started.
import './hostile/as-user.ts';
import './attacks-mounts.test.ts';
