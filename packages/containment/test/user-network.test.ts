// The attacks of attacks-network.test.ts on what an ordinary user started.
import './hostile/as-user.ts';
import './attacks-network.test.ts';
