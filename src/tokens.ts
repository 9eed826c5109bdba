/**
 * Names that more than one module needs: tokens, ids, commands, event schemas.
 */
import { Token } from '@lumino/coreutils';
import type { ElasticActions } from './actions';
import type { CurrentDocument } from './current';
import type { ElasticModel } from './model';

/** The npm package, and the prefix of all plugin ids. */
export const PACKAGE = 'jupyter_elastic';

/** The plugin that owns the settings (`schema/plugin.json`). */
export const SETTINGS_ID = `${PACKAGE}:plugin`;

/** The id of the panel in the shell and in saved layouts. */
export const PANEL_ID = 'elastic-panel';

/** The key of the notebook metadata which the server reads when it starts a kernel. */
export const METADATA_KEY = 'elastic';

/** Item name of the chip in the notebook toolbar, as in `schema/plugin.json`. */
export const CHIP_ITEM = 'elasticChip';

/** Command ids: `elastic:verb-noun`. */
export namespace CommandIDs {
  export const openPanel = 'elastic:open-panel';
  export const startKernel = 'elastic:start-kernel';
  export const resizeKernel = 'elastic:resize-kernel';
  export const stopKernel = 'elastic:stop-kernel';
  export const chooseKernel = 'elastic:choose-kernel';
  export const openKernel = 'elastic:open-kernel';
  export const attachKernel = 'elastic:attach-kernel';
  export const restartKernel = 'elastic:restart-kernel';
  export const keepKernel = 'elastic:keep-kernel';
  export const copyLink = 'elastic:copy-link';
}

/**
 * How the ids of our event schemas end. The host part of an id is the server's affair.
 */
export namespace EventSchemas {
  export const kernel = ['kernel/v1', 'kernel:v1'];
  export const pool = ['pool/v1', 'pool:v1'];
}

/** Whether an event's schema id is one of ours, of the given kind. */
export function isElasticEvent(schemaId: string, kind: 'kernel' | 'pool'): boolean {
  return (
    schemaId.includes('elastic') &&
    EventSchemas[kind].some(suffix => schemaId.endsWith(suffix))
  );
}

/** The one model of elastic kernels in this front end. */
export const IElasticModel = new Token<IElasticModel>(
  `${PACKAGE}:IElasticModel`,
  'What the server knows of templates, kernels, pool and capacity, kept up to date.'
);
export type IElasticModel = ElasticModel;

/** What a user can do to kernels, and where the user is. */
export interface IElasticActions {
  readonly actions: ElasticActions;
  readonly current: CurrentDocument;
}
export const IElasticActions = new Token<IElasticActions>(
  `${PACKAGE}:IElasticActions`,
  'Start, resize, restart and stop elastic kernels together with their notebooks.'
);
