/** The kernel kills this process when the one that started it dies, however busy it is. */
import { hostArch, numberOf } from './arch.ts';
import { libc } from './libc.ts';

const PR_SET_PDEATHSIG = 1;
const SIGKILL = 9;

/** Before the parent is looked at: it may die in between. */
export function dieWithParent(): void {
  libc().syscall(numberOf(hostArch(), 'prctl'), PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
}
