/** Deployments, scheduler, faults; its process is main.ts. */
export type { CoordinatorConfig } from './config.ts';
export { Models } from './models.ts';
