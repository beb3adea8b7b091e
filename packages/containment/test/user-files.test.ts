// The attacks of attacks-files.test.ts on what an ordinary user started.
import './hostile/as-user.ts';
import './attacks-files.test.ts';
