/** What is loaded when the panel or the dialog is first shown, and not when Lab starts. */
export { PanelBody } from './widgets/panelBody';
export { showStartDialog } from './widgets/startDialog';
