// The attacks of attacks-descriptors.test.ts on what an ordinary user started.
import './hostile/as-user.ts';
import './attacks-descriptors.test.ts';
