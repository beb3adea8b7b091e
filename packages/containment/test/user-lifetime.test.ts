// The tests of lifetime.test.ts on what an ordinary user started.
import './hostile/as-user.ts';
import './lifetime.test.ts';
