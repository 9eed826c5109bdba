/**
 * jupyter_elastic: pooled, resizable kernels. The list of its plugins, and what other extensions
 * may use.
 */
import { JupyterFrontEndPlugin } from '@jupyterlab/application';
import { actionsPlugin } from './plugins/actions';
import { chipPlugin } from './plugins/chip';
import { commandsPlugin } from './plugins/commands';
import { launcherPlugin } from './plugins/launcher';
import { linkPlugin } from './plugins/link';
import { lostCellsPlugin } from './plugins/lostCells';
import { modelPlugin } from './plugins/model';
import { notificationsPlugin } from './plugins/notifications';
import { panelPlugin } from './plugins/panel';
import { reconnectPlugin } from './plugins/reconnect';
import { renamesPlugin } from './plugins/renames';
import { runningPlugin } from './plugins/running';
import { statusBarPlugin } from './plugins/statusBar';

export { ElasticModel } from './model';
export * from './tokens';

const plugins: JupyterFrontEndPlugin<unknown>[] = [
  modelPlugin,
  actionsPlugin,
  panelPlugin,
  commandsPlugin,
  chipPlugin,
  statusBarPlugin,
  runningPlugin,
  launcherPlugin,
  linkPlugin,
  notificationsPlugin,
  reconnectPlugin,
  lostCellsPlugin,
  renamesPlugin
];

export default plugins;
