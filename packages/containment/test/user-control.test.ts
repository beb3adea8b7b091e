// The attacks of attacks-control.test.ts on what an ordinary user started.
import './hostile/as-user.ts';
import './attacks-control.test.ts';
