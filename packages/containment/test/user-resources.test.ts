// The attacks of attacks-resources.test.ts on what an ordinary user started.
import './hostile/as-user.ts';
import './attacks-resources.test.ts';
